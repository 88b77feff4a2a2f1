package probe_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/purserd/purser/agent/probe"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errRefused = errors.New("connection refused")

// scene is a container whose probes are asked in a bubble of time.
type scene struct {
	t       *testing.T
	probes  *purserv1.Probes
	started bool
	age     time.Duration // of the container
	// answer makes try n, from 1, of a probe.
	answer func(ctx context.Context, name string, n int) error
	// unreachable tells whether no try could be made; never when nil.
	unreachable func() bool
	// till is when ctx ends.
	till time.Duration

	mu       sync.Mutex
	begun    time.Time
	log      []string // tries, and reports with a "="
	made     map[string]int
	underWay map[string]int
	failed   map[string]int
}

// run plays the scene, and returns how long it took.
func (s *scene) run() time.Duration {
	s.begun = time.Now()
	s.made, s.underWay, s.failed = map[string]int{}, map[string]int{}, map[string]int{}
	ctx, cancel := context.WithTimeout(s.t.Context(), s.till)
	defer cancel()
	probe.Prober{
		Spec: &purserv1.LaunchSpec{Probes: s.probes}, Target: s, Begun: s.begun.Add(-s.age), Started: s.started,
		Report: func(r probe.Report) { s.note("=%s %v %s", r.Probe, r.OK, r.Message) },
		Failed: func(name string) { s.failed[name]++ },
	}.Run(ctx)
	return time.Since(s.begun)
}

func (s *scene) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprint(time.Since(s.begun), " ", fmt.Sprintf(format, args...)))
}

func (s *scene) Try(ctx context.Context, p *purserv1.Probe) error {
	name := p.GetExec().GetCommand()[0]
	s.note("%s", name)
	s.mu.Lock()
	s.made[name]++
	n := s.made[name]
	if s.underWay[name]++; s.underWay[name] > 1 {
		s.t.Errorf("two tries of %s side by side", name)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.underWay[name]--
	}()
	return s.answer(ctx, name, n)
}

func (s *scene) Reach(context.Context) error {
	if s.unreachable != nil && s.unreachable() {
		return errors.New("containerd does not answer")
	}
	return nil
}

func (s *scene) check(want ...string) {
	s.t.Helper()
	// At one moment anything may come first.
	slices.Sort(s.log)
	slices.Sort(want)
	if !slices.Equal(s.log, want) {
		s.t.Errorf("got\n%q\nwant\n%q", s.log, want)
	}
}

// asking is a probe that the target knows by its command.
func asking(name string, change func(*purserv1.Probe)) *purserv1.Probe {
	p := &purserv1.Probe{Exec: &purserv1.ExecProbe{Command: []string{name}}}
	if change != nil {
		change(p)
	}
	return p
}

func play(t *testing.T, s *scene, check func(took time.Duration)) {
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		check(s.run())
	})
}

func TestStartupComesFirst(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Startup: asking("startup", nil), Ready: asking("ready", nil), Live: asking("live", func(p *purserv1.Probe) { p.InitialDelay = new("5s") })},
		answer: func(_ context.Context, name string, n int) error {
			if name == "startup" && n < 3 {
				return errRefused
			}
			return nil
		},
		till: 13 * time.Second,
	}
	play(t, s, func(time.Duration) {
		s.check("0s startup", "1s startup", "2s startup", "2s =startup true ", "2s ready", "2s =ready true ", "5s live", "12s ready")
		if s.failed["startup"] != 2 {
			t.Errorf("%d failures counted", s.failed["startup"])
		}
	})
}

func TestStartupFails(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Startup: asking("startup", func(p *purserv1.Probe) { p.Failures = new(uint32(2)) }), Live: asking("live", nil)},
		answer: func(context.Context, string, int) error { return errRefused },
		till:   time.Hour,
	}
	play(t, s, func(took time.Duration) {
		s.check("0s startup", "1s startup", "1s =startup false connection refused (2 tries in a row have failed)")
		if took != time.Second {
			t.Errorf("returned after %v", took)
		}
	})
}

func TestReadyComesAndGoes(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Ready: asking("ready", func(p *purserv1.Probe) { p.Failures, p.Successes = new(uint32(1)), new(uint32(2)) })},
		answer: func(_ context.Context, _ string, n int) error {
			if n == 3 {
				return errRefused
			}
			return nil
		},
		till: 45 * time.Second,
	}
	play(t, s, func(time.Duration) {
		s.check("0s ready", "10s ready", "10s =ready true ", "20s ready", "20s =ready false connection refused", "30s ready", "40s ready", "40s =ready true ")
	})
}

func TestLiveFails(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Ready: asking("ready", nil), Live: asking("live", func(p *purserv1.Probe) { p.InitialDelay = new("1s") })},
		answer: func(_ context.Context, name string, n int) error {
			if name == "live" && n != 2 { // one success breaks the row
				return errRefused
			}
			return nil
		},
		till: time.Hour,
	}
	play(t, s, func(took time.Duration) {
		if took != 41*time.Second || s.made["live"] != 5 || s.failed["live"] != 4 {
			t.Errorf("took %v, %d tries, %d failures: %q", took, s.made["live"], s.failed["live"], s.log)
		}
		if last := s.log[len(s.log)-1]; last != "41s =live false connection refused (3 tries in a row have failed)" {
			t.Error(last)
		}
	})
}

// A try that returns when it is told to has failed then.
func TestTimeout(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Live: asking("live", func(p *purserv1.Probe) { p.Failures = new(uint32(1)); p.Timeout = new("2s") })},
		answer: func(ctx context.Context, _ string, _ int) error {
			<-ctx.Done()
			return ctx.Err()
		},
		till: time.Hour,
	}
	play(t, s, func(time.Duration) { s.check("0s live", "2s =live false took longer than 2s") })
}

// One that does not is given up, counts at each period, and holds up no other probe.
func TestHang(t *testing.T) {
	var release chan struct{}
	s := &scene{
		probes: &purserv1.Probes{Ready: asking("ready", nil), Live: asking("live", nil)},
		till:   time.Hour,
	}
	s.answer = func(_ context.Context, name string, _ int) error {
		if name == "live" {
			<-release
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		s.t, release = t, make(chan struct{})
		time.AfterFunc(30*time.Second, func() { close(release) })
		took := s.run()
		s.check("0s ready", "0s live", "0s =ready true ", "10s ready", "20s ready",
			"20s =live false hangs: it has not even ended when its time was over (3 tries in a row have failed)")
		if took != 30*time.Second {
			t.Errorf("returned after %v, while a try was under way", took)
		}
	})
}

// A try that hung and ended late counts no more, and the next is made at its time.
func TestHangThatEnds(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Live: asking("live", nil)},
		answer: func(_ context.Context, _ string, n int) error {
			if n == 1 {
				<-time.After(15 * time.Second)
			}
			return nil
		},
		till: 25 * time.Second,
	}
	play(t, s, func(time.Duration) {
		s.check("0s live", "20s live")
		if s.failed["live"] != 2 {
			t.Errorf("%d failures", s.failed["live"])
		}
	})
}

// A try that hangs because it is containerd that does says nothing about the container,
// neither meanwhile nor by how it ends.
func TestHangOutside(t *testing.T) {
	var begun time.Time
	frozen := func() bool { at := time.Since(begun); return at > time.Second && at < 61*time.Second }
	s := &scene{
		probes: &purserv1.Probes{Live: asking("live", func(p *purserv1.Probe) { p.Failures = new(uint32(1)) })},
		answer: func(_ context.Context, _ string, n int) error {
			if n == 1 {
				<-time.After(62 * time.Second)
				return errRefused
			}
			return nil
		},
		unreachable: frozen,
		till:        75 * time.Second,
	}
	synctest.Test(t, func(t *testing.T) {
		s.t, begun = t, time.Now()
		s.run()
		s.check("0s live", "1m10s live")
		if s.failed["live"] != 0 {
			t.Errorf("%d failures", s.failed["live"])
		}
	})
}

// One that began to hang by itself counts while the container can be reached.
func TestHangThatIsCutOff(t *testing.T) {
	var begun time.Time
	s := &scene{
		probes: &purserv1.Probes{Live: asking("live", nil)},
		answer: func(context.Context, string, int) error { <-time.After(time.Hour); return nil },
		till:   2 * time.Hour,
		unreachable: func() bool {
			at := time.Since(begun)
			return at > 5*time.Second && at < 33*time.Second
		},
	}
	synctest.Test(t, func(t *testing.T) {
		s.t, begun = t, time.Now()
		s.run()
		s.check("0s live", "40s =live false hangs: it has not even ended when its time was over (3 tries in a row have failed)")
	})
}

func TestSlowerThanItsPeriod(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Ready: asking("ready", func(p *purserv1.Probe) { p.Period, p.Timeout = new("1s"), new("5s") })},
		answer: func(context.Context, string, int) error { <-time.After(1500 * time.Millisecond); return nil },
		till:   5 * time.Second,
	}
	play(t, s, func(time.Duration) { s.check("0s ready", "1.5s =ready true ", "2s ready", "4s ready") })
}

// What lies outside the container counts for nothing.
func TestNotMade(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Live: asking("live", func(p *purserv1.Probe) { p.Failures = new(uint32(2)) })},
		answer: func(_ context.Context, _ string, n int) error {
			if n%2 == 1 {
				return errRefused
			}
			return fmt.Errorf("%w: containerd is away", probe.ErrNotMade)
		},
		till: time.Hour,
	}
	play(t, s, func(took time.Duration) {
		if took != 20*time.Second || s.made["live"] != 3 || s.failed["live"] != 2 {
			t.Errorf("took %v, %d tries, %d failed", took, s.made["live"], s.failed["live"])
		}
	})
}

func TestStartedBefore(t *testing.T) {
	s := &scene{
		probes:  &purserv1.Probes{Startup: asking("startup", nil), Ready: asking("ready", func(p *purserv1.Probe) { p.InitialDelay = new("1m") })},
		started: true, age: time.Hour,
		answer: func(context.Context, string, int) error { return nil },
		till:   5 * time.Second,
	}
	play(t, s, func(time.Duration) {
		if s.made["startup"] != 0 || s.made["ready"] != 1 {
			t.Errorf("%q", s.log)
		}
	})
}

// Nothing is reported of a try that ended because it was told to, at the end.
func TestEndsWithItsContext(t *testing.T) {
	s := &scene{
		probes: &purserv1.Probes{Startup: asking("startup", func(p *purserv1.Probe) { p.Failures, p.Timeout = new(uint32(1)), new("1m") })},
		answer: func(ctx context.Context, _ string, _ int) error { <-ctx.Done(); return errRefused },
		till:   5 * time.Second,
	}
	play(t, s, func(took time.Duration) {
		if took != 5*time.Second || s.failed["startup"] != 0 {
			t.Errorf("took %v, %d failed", took, s.failed["startup"])
		}
		s.check("0s startup")
	})
}

func TestNoProbes(t *testing.T) {
	s := &scene{till: time.Second}
	play(t, s, func(took time.Duration) {
		if took != time.Second {
			t.Errorf("returned after %v", took)
		}
	})
}
