package netprobe

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

const (
	userAgent    = "purser-probe"
	maxRedirects = 10
	maxHeader    = 64 << 10
)

var errRedirects = fmt.Errorf("redirects more than %d times", maxRedirects)

// http sends a GET. Statuses count, and redirects are followed, as Kubernetes does it:
// one to another host is an answer like any other.
func (c *connections) http(p *purserv1.HttpProbe, answer io.Writer) error {
	request, err := newRequest(c.ctx, p)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return c.loopback(port) // whatever the host is called
		},
		// The container vouches for itself: a certificate would be for another name.
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	client := http.Client{Transport: transport, CheckRedirect: checkRedirect}
	response, err := client.Do(request)
	if err != nil {
		return httpError(p, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 200 && response.StatusCode < 400 {
		return nil
	}
	// What cannot be read of it is missing in a message.
	_, _ = io.Copy(answer, io.LimitReader(response.Body, MaxAnswer))
	return fmt.Errorf("HTTP status %d %s", response.StatusCode, http.StatusText(response.StatusCode))
}

func newRequest(ctx context.Context, p *purserv1.HttpProbe) (*http.Request, error) {
	host := (&url.URL{Host: p.GetHost()}).Hostname()
	address := net.JoinHostPort(cmp.Or(host, "localhost"), strconv.Itoa(int(p.GetPort())))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, launchspec.ProbeScheme(p)+"://"+address+launchspec.ProbePath(p), nil)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	request.Host = cmp.Or(p.GetHost(), request.Host)
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("Accept", "*/*")
	for name, value := range p.GetHeaders() {
		request.Header.Set(name, value)
	}
	return request, nil
}

func checkRedirect(next *http.Request, before []*http.Request) error {
	switch {
	case next.URL.Hostname() != before[0].URL.Hostname():
		return http.ErrUseLastResponse
	case len(before) >= maxRedirects:
		return errRedirects
	}
	return nil
}

// httpError puts into words why there was no answer. The client's own words may repeat
// what the server sent.
func httpError(p *purserv1.HttpProbe, err error) error {
	var connecting *net.OpError
	var alert tls.AlertError
	switch {
	case errors.As(err, &connecting) && connecting.Op == "dial":
		return connectError(p.GetPort(), err)
	case errors.Is(err, errRedirects):
		return errRedirects
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, new(tls.RecordHeaderError)):
		return errors.New("the server does not speak TLS: with scheme: http it may answer")
	case errors.As(err, &alert):
		return fmt.Errorf("the server refuses TLS: %w", alert)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), connecting != nil:
		return errors.New("the server closed the connection without an answer")
	}
	return errors.New("the server's answer is not HTTP")
}
