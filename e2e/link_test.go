package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// link is the way to a registry, through which a test sees what is asked for, and
// can make it slow or cut it.
type link struct {
	*httptest.Server
	mu sync.Mutex
	// rate is in bytes a second; 0 is as fast as it goes.
	rate int
	// cutAfter cuts each blob after so many bytes of an answer; 0 does not.
	cutAfter int
	// down: every request is cut.
	down bool
	// status is what every request is answered with, unless zero.
	status int
	// blobs are the GETs of blobs, manifests those of manifests.
	blobs, manifests []fetch
	// open and most count the blobs on their way at the same time.
	open, most int
}

// fetch is a request for content.
type fetch struct {
	path, byteRange string
	sent            int
}

func newLink(t testing.TB, r *rig.Registry) *link {
	t.Helper()
	l := &link{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.Addr})
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.isDown() {
			panic(http.ErrAbortHandler)
		}
		if status := l.answer(); status != 0 {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			l.carry(proxy, w, r)
			return
		}
		if strings.Contains(r.URL.Path, "/manifests/") {
			l.set(func() { l.manifests = append(l.manifests, fetch{path: r.URL.Path}) })
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// addr is the host and port by which an image's reference leads over the link.
func (l *link) addr() string { return strings.TrimPrefix(l.URL, "http://") }

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *link) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

func (l *link) answer() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// carry carries a blob, and notes how much of it.
func (l *link) carry(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	number := len(l.blobs)
	l.blobs = append(l.blobs, fetch{path: r.URL.Path, byteRange: r.Header.Get("Range")})
	l.open++
	l.most = max(l.most, l.open)
	l.mu.Unlock()
	defer l.set(func() { l.open-- })
	proxy.ServeHTTP(&carrier{ResponseWriter: w, link: l, number: number}, r)
}

type carrier struct {
	http.ResponseWriter
	link   *link
	number int
}

func (c *carrier) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, pause, cut := c.next(len(p) - sent)
		if cut {
			panic(http.ErrAbortHandler)
		}
		written, err := c.ResponseWriter.Write(p[sent : sent+n])
		if err != nil {
			return sent + written, err
		}
		sent += n
		c.link.set(func() { c.link.blobs[c.number].sent += n })
		c.ResponseWriter.(http.Flusher).Flush()
		time.Sleep(pause)
	}
	return sent, nil
}

// next says how many of so many bytes may be sent now, and how long that takes.
func (c *carrier) next(wanted int) (n int, pause time.Duration, cut bool) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	n = wanted
	if l.cutAfter > 0 {
		left := l.cutAfter - l.blobs[c.number].sent
		if left <= 0 || l.down {
			return 0, 0, true
		}
		n = min(n, left)
	}
	if l.rate > 0 {
		n = min(n, max(1, l.rate/20))
		pause = time.Duration(n) * time.Second / time.Duration(l.rate)
	}
	return n, pause, false
}

// Flush is what the proxy looks for.
func (c *carrier) Flush() { c.ResponseWriter.(http.Flusher).Flush() }

var _ io.Writer = (*carrier)(nil)

// fetched are the blobs that were asked for so far.
func (l *link) fetched() []fetch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]fetch(nil), l.blobs...)
}
