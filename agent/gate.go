package agent

import (
	"context"

	"github.com/purserd/purser/agent/supervise"
)

// gate holds starts back until it is known which containers there are. It opens once.
type gate struct{ passage watched[passage] }

// passage is whether there is one, and why not yet.
type passage struct {
	open bool
	why  string
}

// open lets everybody through.
func (g *gate) open() { g.passage.set(passage{open: true}) }

// shut says why it is not open yet.
func (g *gate) shut(why string) {
	g.passage.change(func(p *passage) {
		if !p.open {
			p.why = why
		}
	})
}

func (g *gate) isOpen() bool { return g.passage.get().open }

// pass returns once the gate is open. As long as it is not, tell, unless nil, is called
// with every new reason for that, and with none at the end.
func (g *gate) pass(ctx context.Context, tell func(why string)) error {
	told := ""
	for {
		p, changed := g.passage.view()
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.why != told && tell != nil {
			tell(p.why)
			told = p.why
		}
		if p.open {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// passGate holds an instance of a workload back until the gate is open. Of one that
// is called off before there is nothing.
func (w *workload) passGate(ctx context.Context, instance string, enter func(supervise.State, string)) error {
	w.setHeldBack(instance)
	err := w.agent.gate.pass(ctx, func(why string) { enter(supervise.Creating, why) })
	if err == nil {
		w.setHeldBack("")
	}
	return err
}

func (w *workload) setHeldBack(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heldBack = instance
}

func (w *workload) isHeldBack(instance string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heldBack == instance
}
