package egress

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/netns"
)

func TestCheck(t *testing.T) {
	rig.Root(t)
	before, err := os.Readlink(netns.Own)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := Check(); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := os.Readlink(netns.Own); err != nil || after != before {
		t.Errorf("the thread is in %s, not back in %s: %v", after, before, err)
	}
}

// What is missing is said by the first need that is not met.
func TestCheckSaysWhatIsMissing(t *testing.T) {
	met := func() error { return nil }
	for _, c := range []struct {
		name   string
		failed error
		says   []string
	}{
		{"no egress hook", unix.EOPNOTSUPP, []string{"egress hook", "operation not supported", "5.16", "CONFIG_NETFILTER_EGRESS"}},
		{"no capability", unix.EPERM, []string{"operation not permitted", "CAP_NET_ADMIN"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var some []need
			for _, n := range needs {
				n.try = met
				some = append(some, n)
			}
			some[1].try = func() error { return c.failed }
			some[2].try = func() error { return errors.New("tried after one that is not met") }
			err := check(some)
			if !errors.Is(err, c.failed) {
				t.Fatalf("got %v", err)
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
}
