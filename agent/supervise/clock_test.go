package supervise

import (
	"log/slog"
	"testing"
	"time"
)

// left is what an earlier agent has left, by a clock that is ahead by so much.
func left(s Status, now time.Time, ahead time.Duration) Status {
	s.Since = now.Add(ahead)
	if s.Instance != nil {
		s.Instance.CreatedAt, s.Instance.StartedAt, s.Instance.UpAt = s.Since, s.Since, s.Since
	}
	return FromRecord(s.Record())
}

// What ran before a clock was put back is healthy, or is found not to be, no later than if
// it had begun now.
func TestHealthOverAClockThatIsPutBack(t *testing.T) {
	now := time.Unix(1e6, 0)
	for name, trial := range map[string]bool{"on trial": true, "as any other": false} {
		t.Run(name, func(t *testing.T) {
			d := service()
			d.Trial, d.Policy.MinReady, d.Policy.HealthTimeout = trial, time.Second, time.Minute
			s := present(left(runningSince(now), now, 24*time.Hour), now)
			s = adopted(s, Found{Running: true, PID: 7}, now)
			if at, serves := healthyAt(d, s); !serves || at.After(now.Add(time.Second)) {
				t.Errorf("healthy at %v, now is %v", at, now)
			}
			if at := healthyBy(d, s); at.After(now.Add(time.Minute)) {
				t.Errorf("to be healthy by %v, now is %v", at, now)
			}
		})
	}
}

// A pause between two tries is not longer for a clock that was put back meanwhile; what lies
// behind stays as it was.
func TestPauseOverAClockThatIsPutBack(t *testing.T) {
	now := time.Unix(1e6, 0)
	s := Status{State: BackingOff, Run: 1, NextTry: now.Add(24*time.Hour + time.Minute)}
	s = present(left(s, now, 24*time.Hour), now)
	if !s.NextTry.Equal(now.Add(time.Minute)) || !s.Since.Equal(now) {
		t.Errorf("tried again at %v, since %v; now is %v", s.NextTry, s.Since, now)
	}
	ago := left(runningSince(now), now, -time.Hour)
	if got := present(ago, now); !same(got, ago) {
		t.Errorf("%+v has become %+v", ago, got)
	}
}

// A supervisor begins so.
func TestBeginsInThePresent(t *testing.T) {
	now := time.Now()
	s := New(service(), left(runningSince(now), now, 24*time.Hour), nil, nil, nil, slog.New(slog.DiscardHandler))
	if v, _ := s.View(); v.Status.Since.After(time.Now()) {
		t.Errorf("it runs since %v, now is %v", v.Status.Since, now)
	}
}

// The instance that serves while another is tried is brought along.
func TestKeptOverAClockThatIsPutBack(t *testing.T) {
	now := time.Unix(1e6, 0)
	s := left(runningSince(now), now, -time.Hour)
	k := left(runningSince(now), now, 24*time.Hour)
	s.Kept = &k
	if got := present(s, now); got.Kept.Since.After(now) || got.Kept.Instance.StartedAt.After(now) {
		t.Errorf("got %+v", got.Kept)
	}
}
