package registry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Patience is how long a registry is waited for. What is zero is the default.
type Patience struct {
	// Answer is how long it may take to begin an answer; a minute by default.
	Answer time.Duration
	// More is how long it may send nothing of an answer that it has begun; two minutes
	// by default.
	More time.Duration
}

func (p Patience) answer() time.Duration { return cmp.Or(p.Answer, time.Minute) }
func (p Patience) more() time.Duration   { return cmp.Or(p.More, 2*time.Minute) }

// SilentError says that a registry was given up as nothing came from it. It is no
// net.Error with a timeout: containerd's library would begin all over five times.
type SilentError struct {
	Host string
	// After is how long it was waited for.
	After time.Duration
	// Begun says that it had begun to answer.
	Begun bool
}

func (e *SilentError) Error() string {
	if e.Begun {
		return fmt.Sprintf("%s has sent nothing more for %s", e.Host, e.After)
	}
	return fmt.Sprintf("%s has not answered for %s", e.Host, e.After)
}

// BusyError says that a registry takes no more requests for now. Containerd's library
// would ask it five times more at once.
type BusyError struct {
	Host string
	// RetryAfter is when it wants to be asked again, as it says: seconds or a date. May
	// be empty.
	RetryAfter string
}

// retryAfter reads what the registry says; both are zero when it says nothing.
func (e *BusyError) retryAfter() (pause time.Duration, at time.Time) {
	if seconds, err := strconv.ParseUint(e.RetryAfter, 10, 24); err == nil {
		return time.Duration(seconds) * time.Second, time.Time{}
	}
	at, _ = http.ParseTime(e.RetryAfter)
	return 0, at
}

// NotBefore is when the registry wants to be asked again; zero when it does not say.
func (e *BusyError) NotBefore(now time.Time) time.Time {
	pause, at := e.retryAfter()
	if pause > 0 {
		return now.Add(pause)
	}
	return at
}

func (e *BusyError) Error() string {
	text := e.Host + " takes no more requests "
	switch pause, at := e.retryAfter(); {
	case pause > 0:
		return text + "for " + pause.String()
	case !at.IsZero():
		return text + "until " + at.UTC().Format(time.RFC3339)
	default:
		return text + "for now"
	}
}

// impatient is a transport that gives up where nothing comes, and at once where a
// registry is asked too often. It goes by net/http's failing with the cause that a
// request was given up for.
type impatient struct {
	http.RoundTripper
	patience Patience
}

// RoundTrip implements [http.RoundTripper].
func (t impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, giveUp := context.WithCancelCause(r.Context())
	silent := &SilentError{Host: r.URL.Host, After: t.patience.answer()}
	timer := time.AfterFunc(silent.After, func() { giveUp(silent) })
	response, err := t.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err == nil && !timer.Stop() {
		response.Body.Close()
		err = silent
	}
	timer.Stop()
	if err == nil {
		if err = refused(r, response); err != nil {
			response.Body.Close()
		}
	}
	if err != nil {
		giveUp(nil)
		return nil, err
	}
	response.Body = &watched{ReadCloser: response.Body, giveUp: giveUp,
		silent: &SilentError{Host: r.URL.Host, After: t.patience.more(), Begun: true}}
	return response, nil
}

// refused is what is wrong with an answer as a whole.
func refused(r *http.Request, response *http.Response) error {
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		return &BusyError{Host: r.URL.Host, RetryAfter: response.Header.Get("Retry-After")}
	case http.StatusOK:
		sent, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
		if sent == "text/html" && strings.Contains(r.URL.Path, "/manifests/") {
			return &NoRegistryError{Host: r.URL.Host, Sent: sent}
		}
	}
	return nil
}

// watched is an answer on its way.
type watched struct {
	io.ReadCloser
	giveUp context.CancelCauseFunc
	silent *SilentError
}

// Read implements [io.Reader]. How long its caller takes between two reads is not
// held against the registry.
func (w *watched) Read(b []byte) (int, error) {
	timer := time.AfterFunc(w.silent.After, func() { w.giveUp(w.silent) })
	n, err := w.ReadCloser.Read(b)
	timer.Stop()
	return n, err
}

// Close implements [io.Closer].
func (w *watched) Close() error {
	defer w.giveUp(nil)
	return w.ReadCloser.Close()
}
