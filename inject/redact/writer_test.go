package redact

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A prompt shows at once, what may be the beginning of a value after the silence, and
// the rest of it never.
func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sink
		var count uint64
		m := Compile([]Value{value("s", "correct horse")})
		w := NewWriter(&out, m, time.Second, func(n uint64) { count += n })
		want := func(text string) {
			t.Helper()
			synctest.Wait()
			if got := out.take(); got != text {
				t.Errorf("got %q, want %q", got, text)
			}
		}
		write := func(text string) {
			if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		write("prompt> ")
		want("prompt> ")
		write("corr")
		want("")
		<-time.After(time.Second)
		want("corr")
		write("ect ho")
		<-time.After(time.Second / 2)
		want("")
		<-time.After(time.Second / 2)
		want("[partial]")
		write("rse!")
		synctest.Wait()
		if got := out.take(); strings.Contains(got, "rse") || !strings.HasSuffix(got, "!") {
			t.Errorf("got %q", got)
		}
		write("a correct horse b correct h")
		want("a [secret:s/K] b ")
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		want("[partial]")
		before := count
		w.Close()
		if count != before || count == 0 {
			t.Errorf("%d redactions", count)
		}
	})
}

// sink has what a Writer has written since it was taken last.
type sink struct {
	mu   sync.Mutex
	text []byte
}

func (s *sink) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, data...)
	return len(data), nil
}

func (s *sink) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.text = nil }()
	return string(s.text)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestWriterPassesErrorsOn(t *testing.T) {
	w := NewWriter(failing{}, Compile(nil), time.Second, func(uint64) {})
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("no error")
	}
	w.Close()
}
