package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
)

// impatience is what tests wait for.
var impatience = Patience{Answer: 100 * time.Millisecond, More: 100 * time.Millisecond}

// silence ends when the client is gone.
func silence(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// serve is a registry, and what counts the requests that it gets.
func serve(t *testing.T, handle http.HandlerFunc) (addr string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), asked
}

func resolver(t *testing.T, addr string, patience Patience) remotes.Resolver {
	t.Helper()
	r, done := Config{Patience: patience}.Resolver(Silent(t.Context()), addr, nil, semaphore.NewWeighted(1))
	t.Cleanup(done)
	return r
}

func TestRegistryThatGivesNoImage(t *testing.T) {
	var token string
	for name, tc := range map[string]struct {
		handle       http.HandlerFunc
		patience     Patience
		reason, text string
		asked        int32
	}{
		"silent": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, impatience,
			TimedOut, "ADDR has not answered for 100ms", 1},
		"silent about tokens": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+token+`",service="s"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, impatience, TimedOut, "TOKEN has sent nothing more for 100ms", 1},
		"busy": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "90")
			w.WriteHeader(http.StatusTooManyRequests)
		}, Patience{}, TooMany, "ADDR takes no more requests for 1m30s", 1},
		"broken": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, Patience{},
			Unavailable, "ADDR answers 503 Service Unavailable, which is for its operators to mend", 2},
		"without it": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, Patience{},
			NotFound, "registry ADDR has no such image: check its name and tag", 1},
	} {
		t.Run(name, func(t *testing.T) {
			addr, asked := serve(t, tc.handle)
			tokens, _ := serve(t, silence)
			token = "http://" + tokens + "/token"
			_, _, err := resolver(t, addr, tc.patience).Resolve(t.Context(), addr+"/app:1")
			want := strings.NewReplacer("ADDR", addr, "TOKEN", tokens).Replace(tc.text)
			if reason, text := Explain(Said(err), addr, nil); reason != tc.reason || text != want || asked.Load() != tc.asked {
				t.Errorf("asked %d times: %s: %s (%v)", asked.Load(), reason, text, err)
			}
		})
	}
}

func TestRegistryThatStallsHalfWay(t *testing.T) {
	addr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "8")
		_, _ = io.WriteString(w, "half")
		silence(w, r)
	})
	fetcher, err := resolver(t, addr, impatience).Fetcher(t.Context(), addr+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	content, err := fetcher.Fetch(t.Context(), imagespec.Descriptor{MediaType: imagespec.MediaTypeImageLayer, Digest: digest.FromString("x"), Size: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	got, err := io.ReadAll(content)
	if reason, text := Explain(err, addr, nil); string(got) != "half" || reason != TimedOut || text != addr+" has sent nothing more for 100ms" {
		t.Errorf("%q, %s: %s (%v)", got, reason, text, err)
	}
}

// answering is a transport with an answer at hand.
type answering struct{ body io.Reader }

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(a.body), Request: r}, nil
}

// get begins to get what there is to be read.
func get(t *testing.T, from io.Reader) io.ReadCloser {
	t.Helper()
	client := &http.Client{Transport: impatient{answering{from}, Patience{}}}
	response, err := client.Get("http://a.example/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response.Body
}

// A registry that is slow is waited for as long as it sends something.
func TestSlowRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := io.Pipe()
		go func() {
			defer to.Close()
			for range 10 {
				time.Sleep(time.Minute)
				_, _ = to.Write([]byte("x"))
			}
		}()
		if got, err := io.ReadAll(get(t, from)); err != nil || len(got) != 10 {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// Neither is it held against a registry that what it sent is not read.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := get(t, bytes.NewReader(make([]byte, 3)))
		for range 3 {
			time.Sleep(time.Hour)
			if n, err := body.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
	})
}

// What its caller calls off is no silence of the registry.
func TestRequestThatIsCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	addr, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, _, err := resolver(t, addr, Patience{}).Resolve(ctx, addr+"/app:1")
	if errors.As(err, new(*SilentError)) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWhenToTryAgain(t *testing.T) {
	for after, want := range map[string]string{
		"": "h takes no more requests for now", "90": "h takes no more requests for 1m30s",
		"Wed, 21 Oct 2026 07:28:00 GMT": "h takes no more requests until 2026-10-21T07:28:00Z",
		"-1":                            "h takes no more requests for now", "99999999999999999999": "h takes no more requests for now", "soon": "h takes no more requests for now",
	} {
		if got := (&BusyError{Host: "h", RetryAfter: after}).Error(); got != want {
			t.Errorf("%q: %s", after, got)
		}
	}
}

func TestDefaultPatience(t *testing.T) {
	if p := (Patience{}); p.answer() != time.Minute || p.more() != 2*time.Minute {
		t.Error(p.answer(), p.more())
	}
	var c connections
	transport := docker.DefaultHTTPTransport(nil)
	if err := c.add(&http.Client{Transport: transport}); err != nil || transport.ResponseHeaderTimeout != 0 {
		t.Error("the library is less patient than we", transport.ResponseHeaderTimeout, err)
	}
}

// A web page in place of a manifest comes from something else than a registry; one in
// place of anything else says nothing.
func TestNoRegistry(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
	}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: impatient{transport, Patience{}}}
	_, err := client.Get(server.URL + "/v2/app/manifests/1")
	if reason, text := Explain(err, "a.example", nil); reason != Misconfigure || !strings.HasSuffix(text, "is no registry: it sent text/html") {
		t.Errorf("%s: %s (%v)", reason, text, err)
	}
	response, err := client.Get(server.URL + "/token")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}

func TestNotBefore(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"30": now.Add(30 * time.Second), "Sat, 10 Jan 2026 12:01:00 GMT": now.Add(time.Minute), "": {}, "soon": {},
	} {
		if got := (&BusyError{RetryAfter: text}).NotBefore(now); !got.Equal(want) {
			t.Errorf("%q: %s", text, got)
		}
	}
}
