package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"
)

// RegistryOptions say what a registry is to be like.
type RegistryOptions struct {
	// User and Password are asked for, unless empty.
	User, Password string
	// TLS: it has a certificate of an authority of its own.
	TLS bool
}

// Registry is docker's registry on a loopback address.
type Registry struct {
	// Addr is its host and port.
	Addr string
	// Authority is the file of its certificate authority, with TLS.
	Authority string

	t       testing.TB
	options RegistryOptions
	client  *http.Client
}

// StartRegistry starts an empty registry, which ends with the test.
func StartRegistry(t testing.TB, o RegistryOptions) *Registry {
	t.Helper()
	program := need(t, "docker-registry", "apt-get install docker-registry")
	r := &Registry{t: t, options: o, client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(func() { r.client.CloseIdleConnections() })
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\n", filepath.Join(dir, "data"))
	if o.User != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(o.Password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		r.write(dir, "htpasswd", []byte(o.User+":"+string(hash)+"\n"))
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", filepath.Join(dir, "htpasswd"))
	}
	tlsConfig := ""
	if o.TLS {
		tlsConfig = r.certify(dir)
	}
	// Somebody else may take the port meanwhile: then another one.
	for range 5 {
		r.Addr = freeAddress(t)
		path := r.write(dir, "config.yml", fmt.Appendf(nil, "%shttp: {addr: %q%s}\n", config, r.Addr, tlsConfig))
		if r.serve(program, path) {
			return r
		}
	}
	t.Fatal("docker-registry does not serve")
	return nil
}

func (r *Registry) write(dir, name string, data []byte) string {
	r.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve runs the registry, and says whether it answers.
func (r *Registry) serve(program, config string) bool {
	r.t.Helper()
	cmd := exec.Command(program, "serve", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for range 200 {
		if response, err := r.client.Get(r.scheme() + "://" + r.Addr + "/v2/"); err == nil {
			response.Body.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(25 * time.Millisecond):
		}
	}
	return false
}

func (r *Registry) scheme() string {
	if r.options.TLS {
		return "https"
	}
	return "http"
}

// certify makes an authority and a certificate of it, and returns the registry's
// configuration for them.
func (r *Registry) certify(dir string) string {
	r.t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "registry"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	authorityKey, serverKey := r.key(), r.key()
	r.Authority = r.write(dir, "ca.pem", r.sign(authority, authority, authorityKey, authorityKey))
	certificate := r.write(dir, "cert.pem", r.sign(server, authority, serverKey, authorityKey))
	der, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		r.t.Fatal(err)
	}
	key := r.write(dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	pool := x509.NewCertPool()
	trusted, _ := os.ReadFile(r.Authority)
	pool.AppendCertsFromPEM(trusted)
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return fmt.Sprintf(", tls: {certificate: %s, key: %s}", certificate, key)
}

func (r *Registry) key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	return key
}

func (r *Registry) sign(what, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, what, by, &key.PublicKey, byKey)
	if err != nil {
		r.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Push pushes a busybox image under a repository and tag, and returns its reference
// by digest.
func (r *Registry) Push(tag string, i Image) string {
	r.t.Helper()
	img, err := build(i)
	if err != nil {
		r.t.Fatal(err)
	}
	ref := r.tag(tag)
	if err := remote.Write(ref, img, r.remote()...); err != nil {
		r.t.Fatalf("pushing %s: %v", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		r.t.Fatal(err)
	}
	return ref.Context().Digest(digest.String()).String()
}

// PushIndex pushes an index of images that are for several platforms.
func (r *Registry) PushIndex(tag string, images ...Image) {
	r.t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, i := range images {
		img, err := build(i)
		if err != nil {
			r.t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: i.arch()},
		}})
	}
	if err := remote.WriteIndex(r.tag(tag), index, r.remote()...); err != nil {
		r.t.Fatalf("pushing %s: %v", tag, err)
	}
}

func (r *Registry) tag(tag string) name.Tag {
	r.t.Helper()
	ref, err := name.NewTag(r.Addr + "/" + tag)
	if err != nil {
		r.t.Fatal(err)
	}
	return ref
}

func (r *Registry) remote() []remote.Option {
	var auth authn.Authenticator = authn.Anonymous
	if r.options.User != "" {
		auth = &authn.Basic{Username: r.options.User, Password: r.options.Password}
	}
	return []remote.Option{remote.WithAuth(auth), remote.WithTransport(r.client.Transport)}
}
