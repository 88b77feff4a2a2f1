package agent

import (
	"errors"
	"testing"

	"github.com/purserd/purser/agent/supervise"
)

func TestSignalsThatThereAreNot(t *testing.T) {
	for _, name := range []string{"99", "65", "0", "SIGNONE"} {
		var refusal *Refusal
		err := (&Agent{}).Signal(t.Context(), "dev", "a/f", name)
		if !errors.As(err, &refusal) || refusal.Reason != Invalid {
			t.Errorf("signal %s: got %v", name, err)
		}
	}
}

func TestStandstill(t *testing.T) {
	w := with([3]string{"prod", "a", "f"}).list("prod", "")[0]
	for want, s := range map[string]supervise.Status{
		"failed; to start it: purser start -E prod a/f":                 {State: supervise.Failed, Reason: "exited with status 3"},
		"backing_off: exited with status 3; see purser get -E prod a/f": {State: supervise.BackingOff, Reason: "exited with status 3"},
		"creating; see purser get -E prod a/f":                          {State: supervise.Creating},
	} {
		if got := w.standstill(s); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
