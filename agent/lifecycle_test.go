package agent

import (
	"errors"
	"testing"
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
