package cli

import (
	"context"
	"sync"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// fakeDrain is a drain of two workloads, one of which never stops.
type fakeDrain struct {
	mu  sync.Mutex
	now *purserv1.DrainState
}

func (d *fakeDrain) state() *purserv1.DrainState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *fakeDrain) set(now *purserv1.DrainState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = now
}

// Drain ends at once when it has a deadline, as what hangs is killed then.
func (f fakeInfo) Drain(ctx context.Context, r *connect.Request[purserv1.DrainRequest], stream *connect.ServerStream[purserv1.DrainResponse]) error {
	f.node.drain.set(&purserv1.DrainState{Since: now()})
	all := []*purserv1.Remaining{{Environment: "dev", Id: "shop/cart", State: "stopping"}, {Environment: "prod", Id: "shop/pay", State: "stopping"}}
	for n := range 2 {
		if err := stream.Send(&purserv1.DrainResponse{Drain: f.node.drain.state(), Total: 2, Stopped: uint32(n), Remaining: all[n:]}); err != nil {
			return err
		}
	}
	if r.Msg.GetDeadline() == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	f.node.drain.set(&purserv1.DrainState{Since: now(), DrainedAt: now()})
	return stream.Send(&purserv1.DrainResponse{Drain: f.node.drain.state(), Total: 2, Stopped: 2})
}

func (f fakeInfo) Undrain(context.Context, *connect.Request[purserv1.UndrainRequest]) (*connect.Response[purserv1.UndrainResponse], error) {
	changed := f.node.drain.state() != nil
	f.node.drain.set(nil)
	return connect.NewResponse(&purserv1.UndrainResponse{Changed: changed}), nil
}
