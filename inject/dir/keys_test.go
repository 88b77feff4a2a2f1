package dir_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/dir"
	"github.com/purserd/purser/inject/source"
)

// Files are named as their programs want, and keys as variables are.
func TestKeysOfFiles(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{
		"tls/tls.crt": "c", "tls/tls.key": "k", "tls/ca-bundle.crt": "b", "tls/1st": "o", "tls/.hidden": "no", "tls/old.bak": "no", "tls/my.bak": "m",
		"k8s/..2026/.dockerconfigjson": "d", "k8s/..2026/.hidden": "h", "k8s/..2026/old.bak": "o", "k8s/..2026/..gone": "no", "k8s/..data": "->..2026",
		"plain/.dockerconfigjson": "d", "plain/purser-identity": "AGE-SECRET-KEY-1", "named/purser-identity": "AGE-SECRET-KEY-1",
		"k8s/..2026/purser-identity": "AGE-SECRET-KEY-1",
		"vault.json":                 `{"tls.crt": "c", "api-key": 1.10, "A": true}`, "vault.yaml/.keep": "no", "y.yaml": "tls.crt: c\nB: b\n",
		"e.env": "A=1\n", "tls.pem": "p", "api-key": "a",
	})
	rename := map[string]string{"tls.crt": "TLS_CRT", "my.bak": "MINE", "A": "AAA", "tls.pem": "PEM", "purser-identity": "ID"}
	for _, test := range []struct {
		rename map[string]string
		wants  map[string]string
	}{
		{nil, map[string]string{
			"tls": "_1st=o ca_bundle_crt=b tls_crt=c tls_key=k", "k8s": "DOCKERCONFIGJSON=d _hidden=h old_bak=o", "plain": "DOCKERCONFIGJSON=d",
			"vault": "A=true api_key=1.10 tls_crt=c", "y": "B=b tls_crt=c", "e": "A=1", "tls.pem": "tls_pem=p", "api-key": "api_key=a",
		}},
		{rename, map[string]string{
			"tls": "MINE=m TLS_CRT=c _1st=o ca_bundle_crt=b tls_key=k", "k8s": "DOCKERCONFIGJSON=d _hidden=h old_bak=o", "plain": "DOCKERCONFIGJSON=d",
			"vault": "AAA=true TLS_CRT=c api_key=1.10", "y": "B=b TLS_CRT=c", "e": "AAA=1", "tls.pem": "PEM=p", "api-key": "api_key=a",
		}},
	} {
		d := dir.New(dir.Options{Path: path, Environment: "prod", Rename: test.rename, Ignore: []string{"purser-identity"}})
		for secret, want := range test.wants {
			if got := get(d, "prod", secret); got != want {
				t.Errorf("with %v %s: got %q, want %q", test.rename, secret, got, want)
			}
		}
		if got := get(d, "prod", "named"); !strings.Contains(got, "no file") {
			t.Errorf("the node's identity is %q", got)
		}
	}
}

// Two names that are one key are a mistake that names both, wherever they stand.
func TestKeysThatAreOne(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{"a/tls.crt": "hunter2", "a/tls-crt": "hunter2", "b.json": `{"tls.crt": "hunter2", "tls-crt": "hunter2"}`, "c/A": "hunter2", "c/B": "hunter2"})
	d := dir.New(dir.Options{Path: path, Environment: "prod", Rename: map[string]string{"A": "B"}})
	for secret, want := range map[string][]string{"a": {"a/tls.crt", "a/tls-crt", "one key", "rename"}, "b": {"b.json", "tls_crt is given twice"}, "c": {"c/A", "c/B", "one key"}} {
		_, err := d.Get(context.Background(), source.Name{Environment: "prod", Secret: secret}, "")
		if err == nil || errors.Is(err, inject.ErrNotFound) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", secret, err)
			continue
		}
		for _, word := range want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not say %q", err, word)
			}
		}
	}
}
