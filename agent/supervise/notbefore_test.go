package supervise

import (
	"fmt"
	"testing"
	"time"
)

// busy is the error of somebody who wants to be asked later.
type busy time.Duration

func (b busy) Error() string                     { return "busy" }
func (b busy) NotBefore(now time.Time) time.Time { return now.Add(time.Duration(b)) }

// The next try is not before it is asked for, within bounds, and never sooner than the
// policy has it.
func TestNotBefore(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	for asked, want := range map[time.Duration]time.Duration{
		-time.Minute: 8 * time.Second, 30 * time.Second: 30 * time.Second, 40 * time.Hour: time.Hour,
	} {
		d := Desired{Goal: Run, Revision: &Revision{Policy: Policy{BackoffMin: 10 * time.Second, BackoffMax: 10 * time.Second}}}
		st := startFailed(d, Status{State: Pulling, Instance: &Instance{ID: "x"}}, fmt.Errorf("pulling: %w", busy(asked)), now, 0)
		got := st.NextTry.Sub(now)
		if st.State != BackingOff || got < want || got > max(want, 10*time.Second) {
			t.Errorf("asked for %s: %s in %s, want %s", asked, st.State, got, want)
		}
	}
}
