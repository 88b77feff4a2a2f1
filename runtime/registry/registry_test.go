package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	"go.uber.org/goleak"

	"github.com/purserd/purser/inject"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func secret(data map[string]string) *inject.Secret {
	s := &inject.Secret{Environment: "dev", Name: "s", Version: 3, Data: map[string]inject.Value{}}
	for key, value := range data {
		s.Data[key] = inject.NewValue([]byte(value))
	}
	return s
}

// A username and password go to the image's registry alone, a configuration's to
// the hosts that it names.
func TestLoginIsForItsHost(t *testing.T) {
	t.Setenv("DOCKER_AUTH_CONFIG", `{"auths": {"a.example": {"auth": "bm9kZTpw"}}}`) // the agent's own, which docker's library heeds
	config := `{"auths": {"mirror.example": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
		"token.example": {"identitytoken": "t"}, "moved.example": {"username": "moved", "password": "p"}}, "credsStore": "no-such-program"}`
	certs := t.TempDir()
	for name, server := range map[string]string{"moved.example": "server = \"https://moved.example:8443\"", "bare.example": "server = \"1.2.3.4:5\"", "none.example": "", "bad.example": "server ="} {
		if err := errors.Join(os.Mkdir(filepath.Join(certs, name), 0o755), os.WriteFile(filepath.Join(certs, name, "hosts.toml"), []byte(server), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		data                           map[string]string
		registry, host, user, password string
	}{
		{map[string]string{"USERNAME": "u", "PASSWORD": "p"}, "a.example", "a.example", "u", "p"},
		{map[string]string{"USERNAME": "u", "PASSWORD": "p"}, "a.example", "mirror.example", "", ""},
		{map[string]string{"USERNAME": "u", "PASSWORD": "p"}, "docker.io", "registry-1.docker.io", "u", "p"},
		{map[string]string{"USERNAME": "u", "PASSWORD": "p"}, "moved.example", "moved.example:8443", "u", "p"},
		{map[string]string{"USERNAME": "u", "PASSWORD": "p"}, "moved.example", "moved.example", "", ""},
		{map[string]string{"USERNAME": "u", "PASSWORD": "p"}, "bare.example", "1.2.3.4:5", "u", "p"},
		{map[string]string{"USERNAME": "u", "PASSWORD": "p"}, "none.example", "none.example", "u", "p"},
		{map[string]string{"USERNAME": "u", "PASSWORD": "p"}, "bad.example", "bad.example", "u", "p"},
		{map[string]string{"DOCKERCONFIGJSON": config}, "moved.example", "moved.example:8443", "moved", "p"},
		{map[string]string{"DOCKERCONFIGJSON": config}, "a.example", "mirror.example", "u", "p"},
		{map[string]string{"DOCKERCONFIGJSON": config}, "docker.io", "registry-1.docker.io", "hub", "p"},
		{map[string]string{"DOCKERCONFIGJSON": config}, "a.example", "token.example", "", "t"},
		{map[string]string{"DOCKERCONFIGJSON": config}, "a.example", "a.example", "", ""},
	} {
		l, err := NewLogin(secret(tc.data))
		if err != nil {
			t.Fatal(err)
		}
		user, password, err := l.credentials(Config{CertsDir: certs}.origin(tc.registry))(tc.host)
		if err != nil || user != tc.user || password != tc.password {
			t.Errorf("%s of %s: %q, %q, %v; want %q, %q", tc.host, tc.registry, user, password, err, tc.user, tc.password)
		}
		if shown := fmt.Sprintf("%v %+v %#v", l, l, l); strings.Contains(shown, "dTpw") {
			t.Errorf("it shows %s", shown)
		}
	}
}

func TestLoginOfWrongSecrets(t *testing.T) {
	if _, err := NewLogin(secret(map[string]string{"USERNAME": "u", "PASS": "hidden"})); err == nil ||
		!strings.Contains(err.Error(), "it needs the keys USERNAME and PASSWORD") || !strings.HasSuffix(err.Error(), "it has PASS, USERNAME") {
		t.Error(err)
	}
	l, err := NewLogin(secret(map[string]string{"DOCKERCONFIGJSON": `{"auths": "hidden`}))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.credentials(origin{"a.example", "a.example"})("a.example"); err == nil || strings.Contains(err.Error(), "hidden") ||
		err.Error() != "key DOCKERCONFIGJSON of secret s, version 3 is no docker configuration file: it must be JSON, as docker login writes it" {
		t.Error(err)
	}
}

func TestExplain(t *testing.T) {
	status := func(code int) error {
		return remoteerrors.ErrUnexpectedStatus{Status: fmt.Sprint(code), StatusCode: code, RequestURL: "https://mirror.example/v2/"}
	}
	for _, tc := range []struct {
		err    error
		reason string
		text   string
	}{
		{&net.OpError{Err: &net.DNSError{Name: "a.example", IsNotFound: true}}, NoHost, "a.example"},
		{&net.OpError{Err: syscall.ECONNREFUSED}, Refused, "a.example"},
		{x509.UnknownAuthorityError{}, Certificate, "certs.d"},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a.example"}, Certificate, "certs.d"},
		{fmt.Errorf("no: %w", docker.ErrInvalidAuthorization), Unauthorized, "image.auth_secret"},
		{status(401), Unauthorized, "mirror.example"},
		{status(403), Unauthorized, "mirror.example"},
		{&BusyError{Host: "mirror.example"}, TooMany, "mirror.example takes no more requests for now"},
		{status(500), Unavailable, "mirror.example answers 500"},
		{status(503), Unavailable, "mirror.example answers 503"},
		{status(400), Failed, "mirror.example answers 400"},
		{Said(fmt.Errorf("x: %w", errdefs.ErrNotFound)), NotFound, "a.example has no such image"},
		{fmt.Errorf("lease x: %w", errdefs.ErrNotFound), Failed, "containerd does not have what it had of it"},
		{context.DeadlineExceeded, TimedOut, "a.example"},
		{&SilentError{Host: "mirror.example", After: time.Minute}, TimedOut, "mirror.example has not answered for 1m0s"},
		{errors.New("rpc error: no space left on device"), NoSpace, "full"},
		{fmt.Errorf("short read: %w", io.ErrUnexpectedEOF), Broken, "goes on"},
		{&net.OpError{Err: syscall.ECONNRESET}, Broken, "goes on"},
		{fmt.Errorf("reading: %w", io.EOF), Broken, "goes on"},
		{errors.New("a file named EOF"), Failed, "a file named EOF"},
		{&HostsError{errors.New("hosts.toml is wrong")}, Misconfigure, "hosts.toml is wrong"},
		{fmt.Errorf("asked: %w", &ConfigError{errors.New("no helper")}), Misconfigure, "no helper"},
		{&NoRegistryError{Host: "mirror.example", Sent: "text/html"}, Misconfigure, "what answers at mirror.example is no registry: it sent text/html"},
		{http.ErrSchemeMismatch, Misconfigure, "a.example does not speak TLS"},
		{tls.RecordHeaderError{}, Misconfigure, "a.example does not speak TLS"},
		{errors.New(`net/http: malformed HTTP response "SSH-2.0"`), Misconfigure, "what answers at a.example is no registry: it does not speak HTTP"},
		{errors.New("something else"), Failed, "something else"},
	} {
		reason, text := Explain(fmt.Errorf("failed to resolve: %w", tc.err), "a.example", nil)
		if reason != tc.reason || !strings.Contains(text, tc.text) {
			t.Errorf("%v: %q, %q", tc.err, reason, text)
		}
	}
	if reason, text := Explain(syscall.ECONNREFUSED, "localhost", nil); reason != NotFound || !strings.Contains(text, "purser image import") {
		t.Errorf("localhost: %s, %s", reason, text)
	}
	config := inject.NewValue([]byte(`{"auths": {"b.example": {"auth": "dTpw"}}}`))
	if _, text := Explain(status(401), "a.example", &Login{From: "secret s, version 3", config: &config}); !strings.Contains(text, `secret s, version 3 has nothing for it: its DOCKERCONFIGJSON needs "a.example" under auths`) {
		t.Errorf("a configuration of another: %s", text)
	}
	if _, text := Explain(status(401), "b.example", &Login{From: "secret s, version 3", config: &config}); !strings.Contains(text, "does not accept") {
		t.Errorf("a configuration: %s", text)
	}
	_, text := Explain(status(401), "a.example", &Login{From: "secret s, version 3", set: "purser secret set -E dev s USERNAME=… PASSWORD=-"})
	if text != "registry mirror.example does not accept secret s, version 3; put it right with: purser secret set -E dev s USERNAME=… PASSWORD=-; the next try takes it" {
		t.Error(text)
	}
}

// What the library says in words alone is what is looked for.
func TestExplainHalfOfTheCredentials(t *testing.T) {
	authorizer := docker.NewDockerAuthorizer(docker.WithAuthCreds(func(string) (string, string, error) { return "user", "", nil }))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://a.example/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := &http.Response{StatusCode: http.StatusUnauthorized, Request: request, Header: http.Header{"Www-Authenticate": {`Basic realm="a"`}}}
	err = authorizer.AddResponses(t.Context(), []*http.Response{asked})
	if err == nil {
		err = authorizer.Authorize(t.Context(), request)
	}
	if err == nil {
		t.Fatal("half of the credentials are enough")
	}
	if reason, _ := Explain(err, "a.example", nil); reason != Unauthorized {
		t.Errorf("%v: %s", err, reason)
	}
}

func TestDockerConfigMayBeMissing(t *testing.T) {
	dir := t.TempDir()
	user, _, err := dockerCredentials(t.Context(), filepath.Join(dir, "none.json"), origin{}, time.Minute)("a.example")
	if user != "" || err != nil {
		t.Errorf("%q, %v", user, err)
	}
	var wrong *ConfigError
	path := filepath.Join(dir, "config.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := dockerCredentials(t.Context(), path, origin{}, time.Minute)("a.example"); !errors.As(err, &wrong) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}
