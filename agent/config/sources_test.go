package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSources(t *testing.T) {
	c, err := Parse("config.toml", []byte("[sources.a]\ntype = 'dir'\npath = '/s/a'\nenvironment = '*'\nprefix = 'x-'\npoll = '10s'\nrename = {'tls.crt' = 'TLS_CRT'}\n[sources.b]\ntype = 'dir'\npath = '/s/a'\nenvironment = 'dev'\nsecret = 'db'"))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := c.Sources["a"], c.Sources["b"]; !reflect.DeepEqual(a, Source{"dir", "/s/a", "*", "", "x-", map[string]string{"tls.crt": "TLS_CRT"}, Duration(10 * time.Second)}) || !reflect.DeepEqual(b, Source{"dir", "/s/a", "dev", "db", "", nil, 0}) {
		t.Errorf("got %+v", c.Sources)
	}
}

func TestSourcesThatCannotBe(t *testing.T) {
	const good = "type = 'dir'\npath = '/s'\nenvironment = 'dev'\n"
	for in, want := range map[string]string{
		"path = '/s'": `sources.x.type: "" is not a type`,
		"type = 'dir'\npath = 's'\nenvironment = 'dev'":                       `sources.x.path: "s" is not an absolute path`,
		"type = 'dir'\npath = '/s'":                                           "sources.x.environment: missing",
		"type = 'dir'\npath = '/s'\nenvironment = 'a/b'":                      "sources.x.environment",
		"type = 'dir'\npath = '/var/lib/purser/secrets'\nenvironment = 'dev'": "and state_dir",
		"type = 'dir'\npath = '/var/lib'\nenvironment = '*'":                  "and state_dir",
		"type = 'dir'\npath = '/'\nenvironment = '*'":                         "and run_dir",
		"type = 'dir'\npath = '/run/purser/private'\nenvironment = '*'":       "and run_dir",
		good + "secret = 'a b'":                                               "sources.x.secret",
		good + "secret = 'db'\nprefix = 'd'":                                  "sources.x.prefix",
		good + "prefix = '-a'":                                                "sources.x.prefix",
		good + "poll = '10ms'":                                                "sources.x.poll: 10ms is less than a second",
		good + "rename = {'tls.crt' = 'TLS.CRT'}":                             `sources.x.rename."tls.crt": "TLS.CRT" is not a key`,
		good + "rename = {'a/b' = 'A'}":                                       `sources.x.rename: "a/b" is not the name of a file`,
		good + "rename = {'..data' = 'A'}":                                    `sources.x.rename: "..data" is not the name of a file`,
		good + "rename = {'a' = 'K', 'b' = 'K'}":                              `sources.x.rename."b": K is the key of "a" already`,
		good + "pol = '10s'":                                                  "unknown key sources.x.pol",
		good + "[sources.store]\n" + good:                                     `sources: "store" is not a name`,
		good + "[sources.'a b']\n" + good:                                     `sources: "a b" is not a name`,
		strings.Replace(good, "dev", "*", 1) + "secret = 'db'":                "sources.x.secret: \"db\" is one secret",
		good + "[secrets]\nidentity = '/s/identity.age'":                      "and secrets.identity",
	} {
		if _, err := Parse("config.toml", []byte("[sources.x]\n"+in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to contain %q", in, err, want)
		}
	}
}
