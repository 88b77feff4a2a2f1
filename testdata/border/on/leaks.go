// Package on is on the injection path, and leaks.
package on

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/logs"
)

// Shown can be read by everybody.
type Shown struct {
	Text string
	List []string
}

var global string

type failure struct{ text string }

func (f failure) Error() string {
	return "failed with " + f.text // leak: returned by Error, which is exported
}

func prints(v inject.Value, environ inject.Environ) {
	plain := v.Reveal()
	fmt.Println(string(plain))                                           // leak: given to fmt.Println
	fmt.Println(environ.Secret())                                        // leak: given to fmt.Println
	slog.Info("m", "value", plain[1:])                                   // leak: given to log/slog.Info
	slog.Default().With("v", strings.Trim(string(plain), " ")).Info("m") // leak: given to (*log/slog.Logger).With
	println(string(plain))                                               // leak: given to println
}

func fails(v inject.Value) error {
	plain := v.Reveal()
	if len(plain) == 1 {
		return errors.New(string(plain)) // leak: given to errors.New
	}
	if len(plain) == 2 {
		return fmt.Errorf("with %q", plain) // leak: given to fmt.Errorf
	}
	if len(plain) == 3 {
		panic(plain) // leak: given to panic
	}
	return failure{string(plain)}
}

// Returned hands it on.
func Returned(v inject.Value) string {
	return string(v.Reveal()) // leak: returned by Returned, which is exported
}

// Lines hands it on, by a function of this package and a library's.
func Lines(environ inject.Environ) (out []byte, err error) {
	variables := map[string]string{}
	for _, assignment := range environ.Secret() {
		name, value, _ := strings.Cut(assignment, "=")
		variables[name] = value
	}
	return encode(variables) // leak: returned by Lines, which is exported
}

func encode(value any) ([]byte, error) { return json.Marshal(value) }

// Bare hands it on without saying so.
func Bare(v inject.Value) (text string) { // leak: returned by Bare, which is exported
	text = string(v.Reveal())
	return
}

// Way hands on a way to it.
func Way(v inject.Value) func() []byte {
	return v.Reveal // leak: returned by Way, which is exported
}

// Closure does so too.
func Closure(v inject.Value) func() string {
	return func() string { return string(v.Reveal()) } // leak: returned by Closure, which is exported
}

func keeps(v inject.Value, s *Shown, sent chan<- string) Shown {
	plain := string(v.Reveal())
	s.Text = plain                      // leak: kept in Text, which is exported
	s.List[0] = plain                   // leak: kept in List, which is exported
	global = plain                      // leak: kept in global, for ever
	sent <- plain                       // leak: sent on a channel
	return Shown{List: []string{plain}} // leak: kept in List, which is exported
}

func gives(v inject.Value, w io.Writer, show func(string)) {
	plain := v.Reveal()
	show(string(plain))                               // leak: given to a function that nobody knows
	_, _ = w.Write(plain)                             // leak: given to (io.Writer).Write
	_ = os.WriteFile("file", plain, 0o600)            // leak: given to os.WriteFile
	_, _ = http.Get("http://x/" + string(plain))      // leak: given to net/http.Get
	_, _ = io.Copy(os.Stdout, bytes.NewReader(plain)) // leak: given to io.Copy
	_ = os.Setenv("A", string(plain))                 // leak: given to os.Setenv
	_, _ = logs.Open(string(plain))                   // leak: given to github.com/purserd/purser/runtime/logs.Open
}

func gets(request *purserv1.PutRequest) {
	slog.Info("put", "request", request) // leak: given to log/slog.Info
	for key, value := range request.GetData() {
		fmt.Println(key)
		fmt.Println(value) // leak: given to fmt.Println
	}
}

// hidden has a field that is plain in one place and printed in another.
type hidden struct{ value []byte }

func fill(v inject.Value) *hidden { return &hidden{v.Reveal()} }

func show(h *hidden) {
	fmt.Println(len(h.value))
	fmt.Printf("%+v", h) // leak: given to fmt.Printf
}

func buffers(v inject.Value) {
	var b bytes.Buffer
	_, _ = b.ReadFrom(bytes.NewReader(v.Reveal()))
	fmt.Print(b.String()) // leak: given to fmt.Print
}

// revealer is what a Value is to somebody who does not know its type.
type revealer interface{ Reveal() []byte }

func unknown(r revealer) {
	fmt.Print(r.Reveal()) // leak: given to fmt.Print
}
