package inject_test

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
)

// A value that JSON would change is refused, not changed.
func TestOnlyTextIsDelivered(t *testing.T) {
	for value, fits := range map[string]bool{"p\u00ffq \n": true, "p\xffq": false, "\xed\xa0\x80": false} {
		source := memory{"s": {version(1, "KEY="+value)}}
		_, err := inject.Resolve(t.Context(), source, inject.Request{Environment: "dev", Refs: []*purserv1.SecretRef{ref("s")}})
		var undeliverable *inject.UndeliverableError
		if (err == nil) != fits || err != nil && (!errors.As(err, &undeliverable) || strings.Contains(err.Error(), value)) {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// The limit is the kernel's: a value of that size starts a process, one byte more
// does not and is refused before.
func TestLimitIsTheKernels(t *testing.T) {
	const name = "SOME_NAME"
	limit := inject.MaxEnvString - len(name) - len("=\x00")
	for _, test := range []struct {
		name string
		size int
		fits bool
	}{
		{"at the limit", limit, true},
		{"above the limit", limit + 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			value := strings.Repeat("x", test.size)
			source := memory{"s": {version(1, name+"="+value)}}
			_, err := inject.Resolve(t.Context(), source, inject.Request{Environment: "dev", Refs: []*purserv1.SecretRef{ref("s")}})
			if (err == nil) != test.fits {
				t.Errorf("Resolve says %v", err)
			}
			command := exec.CommandContext(t.Context(), "/bin/true")
			command.Env = []string{name + "=" + value}
			err = command.Run()
			if test.fits && err != nil || !test.fits && !errors.Is(err, syscall.E2BIG) {
				t.Errorf("execve says %v", err)
			}
		})
	}
}
