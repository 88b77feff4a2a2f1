package agent

import (
	"context"
	"sync"

	"github.com/purserd/purser/agent/supervise"
)

// gate holds starts back until it is known which containers there are. It opens once.
type gate struct {
	mu     sync.Mutex
	opened bool
	why    string
	notice chan struct{} // closed and replaced with every change
}

func newGate() *gate { return &gate{notice: make(chan struct{})} }

// open lets everybody through.
func (g *gate) open() { g.change(func() { g.opened, g.why = true, "" }) }

// shut says why it is not open yet.
func (g *gate) shut(why string) {
	g.change(func() {
		if !g.opened {
			g.why = why
		}
	})
}

func (g *gate) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	close(g.notice)
	g.notice = make(chan struct{})
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

// pass returns once the gate is open. As long as it is not, tell is called with every
// new reason for that, and with none at the end.
func (g *gate) pass(ctx context.Context, tell func(why string)) error {
	told := ""
	for {
		g.mu.Lock()
		opened, why, notice := g.opened, g.why, g.notice
		g.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return err
		}
		if why != told {
			tell(why)
			told = why
		}
		if opened {
			return nil
		}
		select {
		case <-notice:
		case <-ctx.Done():
		}
	}
}

// passGate holds an instance of a workload back until the gate is open. Of one that
// is called off before there is nothing.
func (w *workload) passGate(ctx context.Context, instance string, enter func(supervise.State, string)) error {
	w.setUnborn(instance)
	err := w.agent.gate.pass(ctx, func(why string) { enter(supervise.Creating, why) })
	if err == nil {
		w.setUnborn("")
	}
	return err
}

func (w *workload) setUnborn(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unborn = instance
}

func (w *workload) isUnborn(instance string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unborn == instance
}
