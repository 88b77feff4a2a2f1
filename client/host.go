package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// maxSocketPath is what sockaddr_un takes, less its closing NUL byte. A longer
// path fails in connect(2) with a mere "invalid argument".
const maxSocketPath = 107

// dialTimeout bounds the wait for a host that drops packets; a unix socket
// answers at once.
const dialTimeout = 10 * time.Second

// UnreachableError tells that nothing could be asked at a host, and so that the
// request was not sent. errors.Is with [io/fs.ErrPermission] tells a socket that this
// user may not use, with [io/fs.ErrNotExist] one that is not there.
type UnreachableError struct {
	// Host is as given to [New].
	Host string
	// Err says why.
	Err error
}

func (e *UnreachableError) Error() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return fmt.Sprintf("the agent's socket may not be used: %s: %v", e.Host, e.Err)
	}
	return fmt.Sprintf("no agent answers at %s: %v", e.Host, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Unreachable tells whether a call failed because no agent answered there.
func Unreachable(err error) bool {
	var unreachable *UnreachableError
	return errors.As(err, &unreachable)
}

// target is a parsed host.
type target struct {
	host string
	// url is what requests are addressed to.
	url string
	// network and address are what is dialed.
	network, address string
}

func parseHost(host string) (*target, error) {
	u, err := url.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", host, err)
	}
	switch u.Scheme {
	case "unix":
		return unixTarget(host)
	case "http":
		return httpTarget(host, u)
	}
	if filepath.IsAbs(host) {
		return nil, fmt.Errorf("host %q: want unix:///path/to/socket or http://host:port; did you mean unix://%s?", host, host)
	}
	return nil, fmt.Errorf("host %q: want unix:///path/to/socket or http://host:port", host)
}

// unixTarget takes the path as it stands, so that a socket may have a "%" or
// "?" in its name.
func unixTarget(host string) (*target, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(host, "unix:"), "//")
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("host %q: want an absolute path, as in %s", host, DefaultHost)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("host %q: the path is %d bytes long, a unix socket's may be %d at most",
			host, len(path), maxSocketPath)
	}
	return &target{host: host, url: "http://purser", network: "unix", address: path}, nil
}

func httpTarget(host string, u *url.URL) (*target, error) {
	if u.Port() == "" || u.Hostname() == "" {
		return nil, fmt.Errorf("host %q: want a name and a port, as in http://127.0.0.1:9750", host)
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("host %q: want nothing but a name and a port", host)
	}
	return &target{host: host, url: "http://" + u.Host, network: "tcp", address: u.Host}, nil
}

// transport speaks HTTP/2 without TLS, which every call of the API works over;
// HTTP/1 could not stream in both directions.
func (t *target) transport() *http.Transport {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{DialContext: t.dial, Protocols: &protocols}
}

func (t *target) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, t.network, t.address)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, &UnreachableError{Host: t.host, Err: err}
}
