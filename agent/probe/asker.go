package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// settleTime is how long a try may take to end once its time is over: what it has found
// out until then, and that it could not be made at all, is worth waiting for.
const settleTime = 3 * time.Second

var errHangs = errors.New("hangs: it has not even ended when its time was over")

// asker makes the tries of one probe.
type asker struct {
	name    string
	probe   *purserv1.Probe
	prober  Prober
	reports chan<- Report
	delay   time.Duration
	judge   judge
	decided bool // nothing more is to be asked
}

// run makes tries until ctx ends or a verdict is the last. A period that comes while a
// try is under way is left out, but for one that hangs, which has failed once more.
func (a *asker) run(ctx context.Context) {
	if !sleep(ctx, a.delay) {
		return
	}
	ticker := time.NewTicker(launchspec.ProbePeriod(a.name, a.probe))
	defer ticker.Stop()
	t := a.begin(ctx)
	defer func() { <-t.ended }() // when ctx has ended it has, too, or will soon
	for !a.decided {
		select {
		case <-ctx.Done():
			return
		case err := <-t.result:
			t.done, t.patience = true, nil
			if !t.hangs && !(t.excused && err != nil) {
				a.take(ctx, err)
			}
		case <-t.patience:
			a.hung(ctx, t)
		case <-ticker.C:
			switch {
			case t.done:
				t = a.begin(ctx)
			case t.hangs:
				a.hung(ctx, t)
			}
		}
	}
}

// try is one that is under way, or was.
type try struct {
	result   <-chan error
	ended    <-chan struct{} // closed when its goroutine has
	patience <-chan time.Time
	done     bool
	hangs    bool // it has been given up
	cutOff   bool // the container could not be reached when that was asked last
	excused  bool // nor at some time before, so that its failure says nothing
}

func (a *asker) begin(ctx context.Context) *try {
	timeout := launchspec.ProbeTimeout(a.probe)
	result, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		result <- a.prober.Target.Try(ctx, a.probe)
	}()
	return &try{result: result, ended: ended, patience: time.After(timeout + settleTime)}
}

// hung counts a try that hangs, unless the container cannot be reached: then it is given
// time to settle once it can be, and its failure says nothing any more.
func (a *asker) hung(ctx context.Context, t *try) {
	before := t.cutOff
	t.cutOff = a.prober.Target.Reach(ctx) != nil
	if before || t.cutOff {
		t.hangs, t.excused, t.patience = false, true, time.After(settleTime)
		return
	}
	t.hangs, t.patience = true, nil
	a.take(ctx, errHangs)
}

// take counts the outcome of a try.
func (a *asker) take(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
		return // it tells of our own end
	case errors.Is(err, ErrNotMade):
		return
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("took longer than %v", launchspec.ProbeTimeout(a.probe))
	}
	if err != nil && a.prober.Failed != nil {
		a.prober.Failed(a.name)
	}
	var changed bool
	if a.judge, changed = a.judge.take(err == nil); !changed {
		return
	}
	r := Report{Probe: a.name, OK: err == nil}
	if err != nil {
		r.Message = failed(a.judge.failures, err)
	}
	a.decided = r.Final() || r.Probe == launchspec.ProbeStartup
	select {
	case a.reports <- r:
	case <-ctx.Done():
	}
}

// sleep reports whether ctx has not ended before.
func sleep(ctx context.Context, long time.Duration) bool {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
