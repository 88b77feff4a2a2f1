package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Target is the container that is asked.
type Target interface {
	// Try makes one try of a probe. It returns nil for a success, an error that wraps
	// [ErrNotMade] when nothing can be told of the container, and otherwise why it
	// failed, in words that everybody may read. It returns soon after ctx has ended.
	Try(ctx context.Context, p *purserv1.Probe) error
	// Reach fails when tries could not be made now, for a reason that lies outside the
	// container. It is asked about tries that hang, and returns soon.
	Reach(ctx context.Context) error
}

// ErrNotMade is wrapped by the error of a try that could not be made, for a reason that
// lies outside the container.
var ErrNotMade = errors.New("the probe could not be made")

// Report is a new verdict on a container.
type Report struct {
	Probe string // launchspec.ProbeStartup, ProbeReady or ProbeLive
	OK    bool
	// Message says of a failure what went wrong last.
	Message string
}

// Final tells whether nothing follows: a container that has not started, or works no
// more, is to be ended.
func (r Report) Final() bool { return !r.OK && r.Probe != launchspec.ProbeReady }

// Prober asks the probes of one container.
type Prober struct {
	Spec   *purserv1.LaunchSpec
	Target Target
	// Begun is when the container was started.
	Begun time.Time
	// Started says that the startup probe has passed before.
	Started bool
	// Report is told of every change of a verdict, one call at a time. A live probe
	// counts as passing from the beginning, so that only its failure is one.
	Report func(Report)
	// Failed, if not nil, is told of every try that failed.
	Failed func(probe string)
}

// Run asks the probes until ctx ends or a final verdict has been reported. When it
// returns no try is under way any more.
func (p Prober) Run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reports := make(chan Report)
	ask := func(name string) {
		if a := p.asker(name, reports); a != nil {
			asking.Go(func() { a.run(ctx) })
		}
	}
	follow := func() {
		ask(launchspec.ProbeReady)
		ask(launchspec.ProbeLive)
	}
	if p.Started || p.Spec.GetProbes().GetStartup() == nil {
		follow()
	} else {
		ask(launchspec.ProbeStartup)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-reports:
			p.Report(r)
			if r.Final() {
				return
			}
			if r.Probe == launchspec.ProbeStartup {
				follow()
			}
		}
	}
}

// asker asks the probe of a name; nil when there is none.
func (p Prober) asker(name string, reports chan<- Report) *asker {
	for each, probe := range launchspec.Probes(p.Spec) {
		if each == name {
			return &asker{
				name: name, probe: probe, prober: p, reports: reports, delay: p.delay(name, probe),
				judge: p.judge(name, probe),
			}
		}
	}
	return nil
}

func (p Prober) judge(name string, probe *purserv1.Probe) judge {
	j := judge{successes: launchspec.ProbeSuccesses(probe), failures: launchspec.ProbeFailures(name, probe)}
	if name == launchspec.ProbeLive {
		j.verdict = passing
	}
	return j
}

// spread bounds how far apart the first tries are made of containers that were all
// found running at one moment, by an agent that has just been started.
const spread = time.Second

// delay is how long the first try is still to wait: not at all once its time has come,
// so that nobody waits for a container that is ready.
func (p Prober) delay(name string, probe *purserv1.Probe) time.Duration {
	delay := time.Until(p.Begun.Add(launchspec.ProbeInitialDelay(probe)))
	if delay > 0 {
		return delay
	}
	period := launchspec.ProbePeriod(name, probe)
	if p.Started && time.Since(p.Begun) > spread {
		return rand.N(min(period, spread))
	}
	return 0
}

// failed is the message of a verdict.
func failed(tries int, last error) string {
	if tries == 1 {
		return last.Error()
	}
	return fmt.Sprintf("%v (%d tries in a row have failed)", last, tries)
}
