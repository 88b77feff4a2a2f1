package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/registry"
)

// A pull goes on until it is done or the last who waits has left; a request that
// comes then begins another.
func TestPullsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s pulls
		var begun, ended atomic.Int32
		r := pullRequest{ref: "a"}
		wait := func(d time.Duration) {
			p := s.join(r, func(p *pull) context.CancelFunc {
				begun.Add(1)
				ctx, cancel := context.WithCancel(context.Background())
				go func() {
					defer s.end(r, p)
					select {
					case <-ctx.Done():
						ended.Add(1)
					case <-time.After(time.Minute):
					}
				}()
				return cancel
			})
			defer s.leave(r, p)
			select {
			case <-p.done:
			case <-time.After(d):
			}
		}
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() { wait(time.Duration(i+1) * time.Second) })
		}
		all.Go(func() { wait(time.Hour) })
		all.Wait()
		if begun.Load() != 1 || ended.Load() != 0 {
			t.Errorf("%d pulls were begun, %d called off", begun.Load(), ended.Load())
		}
		for range 3 {
			all.Go(func() { wait(time.Second) })
		}
		all.Wait()
		synctest.Wait()
		if begun.Load() != 2 || ended.Load() != 1 || s.has(func(string) bool { return true }) {
			t.Errorf("%d pulls were begun, %d called off", begun.Load(), ended.Load())
		}
	})
}

// Reports may cross; none takes a layer back.
func TestProgressNeverGoesBack(t *testing.T) {
	p := &pull{moved: make(chan struct{})}
	for _, l := range []runtime.Layer{
		{Digest: "a", State: runtime.LayerWaiting},
		{Digest: "b", State: runtime.LayerWaiting},
		{Digest: "a", State: runtime.LayerDownloaded, Offset: 9},
		{Digest: "a", State: runtime.LayerDownloading, Offset: 5},
		{Digest: "b", State: runtime.LayerDownloading, Offset: 5},
		{Digest: "b", State: runtime.LayerDownloading, Offset: 4},
	} {
		p.progress(l)
	}
	got, _ := p.view()
	if len(got) != 2 || got[0].State != runtime.LayerDownloaded || got[0].Offset != 9 || got[1].Offset != 5 {
		t.Errorf("%+v", got)
	}
}

// Every reason is a result that metrics have from the start.
func TestPullResults(t *testing.T) {
	known := map[string]bool{}
	for _, result := range metrics.PullResults {
		known[result] = true
	}
	for _, reason := range registry.Reasons {
		if result := pullResult(&runtime.PullError{Reason: reason}); !known[result] {
			t.Errorf("%s is no result of a pull", result)
		}
	}
	if !known[pullResult(context.Canceled)] || !known[pullResult(runtime.ErrUnavailable)] || pullResult(nil) != metrics.OK {
		t.Error("unknown results")
	}
}

// What the registry or the way to it is to blame for may be right soon.
func TestPullRefusals(t *testing.T) {
	later := []string{registry.NoHost, registry.Refused, registry.TimedOut, registry.TooMany, registry.Unavailable, registry.Broken}
	for _, reason := range registry.Reasons {
		want := Precondition
		switch {
		case slices.Contains(later, reason):
			want = Later
		case reason == registry.NotFound:
			want = NotFound
		}
		var refusal *Refusal
		if err := runtimeError(&runtime.PullError{Reason: reason}); !errors.As(err, &refusal) || refusal.Reason != want {
			t.Errorf("%s: %v, want %v", reason, refusal.Reason, want)
		}
	}
}

func TestLastUse(t *testing.T) {
	var u imageUse
	came := time.Now().Add(-time.Hour)
	i := runtime.Image{Ref: "a", Updated: came}
	if !u.lastUse(i).Equal(came) {
		t.Error("an image was used last when it came")
	}
	u.set("a", came.Add(-time.Hour))
	if !u.lastUse(i).Equal(came) {
		t.Error("an earlier image of that name counts")
	}
	u.touch("a")
	if !u.lastUse(i).After(came) {
		t.Error("its use does not count")
	}
	u.keep(map[string]bool{"b": true})
	if len(u.all()) != 0 {
		t.Error("an image that is gone is remembered")
	}
}
