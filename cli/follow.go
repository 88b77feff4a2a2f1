package cli

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

const (
	// retryPause is the time between two tries to reach a node that was there.
	retryPause = 300 * time.Millisecond
	// retriesUnsaid is how many of them are made before anything is said.
	retriesUnsaid = 2
	// endPause is what the last output of a container that has ended may be late.
	endPause = 300 * time.Millisecond
)

// follower prints what the functions of an app write and what becomes of them,
// whichever come and go, also past the end of the agent that it asks.
type follower struct {
	api         *client.Client
	environment string
	// app is whose functions are followed; only the workload id if that is not empty.
	app, id string
	// from is when what is printed begins.
	from    time.Time
	console *console

	running  sync.WaitGroup
	followed map[string]*followed // by ID
}

// followed is a workload whose output is printed.
type followed struct {
	id, function string
	// wake has an element when there may be more to print.
	wake chan struct{}
	// gone is closed when the workload is not there any more.
	gone chan struct{}
	// said is the state, and why, that was printed last.
	said string

	// last is when what was printed last was written, and count how much of that
	// moment has been.
	last  time.Time
	count int
	// failures counts the tries in a row to read the output, and unread is whether that
	// was told.
	failures int
	unread   bool

	mu sync.Mutex
	// lines has the beginnings of lines that have not ended. Guarded by mu.
	lines *lineMerger
}

func (f *follower) wants(w *purserv1.Workload) bool {
	if f.id != "" {
		return w.GetId() == f.id
	}
	return w.GetSpec().GetApp() == f.app && !launchspec.OneOff(w.GetSpec())
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	defer f.running.Wait()
	failures := 0
	for ctx.Err() == nil {
		err := f.watch(ctx, func() {
			if failures > retriesUnsaid {
				f.console.say("the node answers again")
			}
			failures = 0
		})
		if ctx.Err() != nil {
			return
		}
		if failures++; failures == retriesUnsaid+1 {
			f.console.say("the node does not answer (%s); waiting for it", outageText(err))
		}
		pause(ctx, jittered(retryPause))
	}
}

// outageText is why a stream ended.
func outageText(err error) string {
	if err == nil {
		return "it ended the connection"
	}
	return printable(headline(err))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// jittered is a pause less a random part of up to a fifth, so that not all who wait for
// the node come at once.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/5) }

// watch follows what the node tells of workloads, for as long as it does.
func (f *follower) watch(ctx context.Context, answered func()) error {
	stream, err := f.api.Workloads.Watch(ctx, connect.NewRequest(&purserv1.WatchRequest{Environment: f.environment}))
	if err != nil {
		return err
	}
	defer stream.Close()
	present := map[string]bool{}
	for stream.Receive() {
		m := stream.Msg()
		switch w := m.GetWorkload(); m.GetType() {
		case "synced":
			answered()
			f.forgetOthers(present)
		case "updated":
			present[w.GetId()] = true
			f.updated(ctx, w)
		case "removed":
			f.removed(w.GetId())
		}
	}
	return stream.Err()
}

// forgetOthers takes leave of workloads that went while nobody was there to tell.
func (f *follower) forgetOthers(present map[string]bool) {
	for id := range f.followed {
		if !present[id] {
			f.removed(id)
		}
	}
}

func (f *follower) updated(ctx context.Context, w *purserv1.Workload) {
	one := f.followed[w.GetId()]
	if one == nil {
		if !f.wants(w) {
			return
		}
		one = &followed{
			id: w.GetId(), function: w.GetSpec().GetFunction(), last: f.from,
			wake: make(chan struct{}, 1), gone: make(chan struct{}),
		}
		one.lines = newLineMerger(func(string) string { return f.console.prefix(one.function) })
		f.followed[one.id] = one
		f.running.Go(func() { f.print(ctx, one) })
	}
	if said := w.GetState() + w.GetReason() + backedOutText(w); tellsSomething(w) && said != one.said {
		one.said = said
		text := strings.TrimSuffix(stateText(w, time.Now())+"; "+printable(backedOutText(w)), "; ")
		f.console.state(one.function, text, stateStyle(w.GetState()))
		if w.GetState() == "backing_off" || w.GetState() == "failed" {
			f.running.Go(func() {
				pause(ctx, endPause)
				f.finishLines(one)
			})
		}
	}
	select {
	case one.wake <- struct{}{}:
	default:
	}
}

// tellsSomething says whether a workload's state is worth telling: those on the way
// to one are not.
func tellsSomething(w *purserv1.Workload) bool {
	return slices.Contains(runs, w.GetState()) || w.GetState() == "backing_off" || slices.Contains(ended, w.GetState())
}

func (f *follower) removed(id string) {
	if one := f.followed[id]; one != nil {
		delete(f.followed, id)
		close(one.gone)
		f.console.state(one.function, "removed", dim)
	}
}

// print prints what a workload writes until it is gone.
func (f *follower) print(ctx context.Context, one *followed) {
	defer f.finishLines(one)
	for {
		wake, again := one.wake, (<-chan time.Time)(nil)
		if err := f.copy(ctx, one); err != nil && connect.CodeOf(err) != connect.CodeNotFound {
			f.tellUnread(ctx, one, err)
			wake, again = nil, time.After(jittered(retryPause))
		} else {
			one.failures, one.unread = 0, false
			f.finishLines(one)
		}
		select { // first, as both may be ready
		case <-one.gone:
			return
		default:
		}
		select {
		case <-wake:
		case <-again:
		case <-one.gone:
			return
		case <-ctx.Done():
			return
		}
	}
}

// tellUnread says, once, that output cannot be read. That the node does not answer at
// all is said for all workloads.
func (f *follower) tellUnread(ctx context.Context, one *followed, err error) {
	one.failures++
	if one.failures > retriesUnsaid && !one.unread && !client.Unreachable(err) && ctx.Err() == nil {
		one.unread = true
		f.console.say("what %s writes cannot be read (%s); trying again", one.function, outageText(err))
	}
}

// copy prints what has been written since what was printed last.
func (f *follower) copy(ctx context.Context, one *followed) error {
	// What is read at once has the same time, so that of the last moment is asked for
	// again, and what is known of it left out.
	known := one.count
	request := &purserv1.LogsRequest{
		Environment: f.environment, Id: one.id, Follow: true,
		Since: timestamppb.New(one.last.Add(-1)),
	}
	return copyLogs(ctx, f.api, request, func(entry *purserv1.LogsResponse) error {
		one.failures, one.unread = 0, false
		at := entry.GetTime().AsTime()
		switch {
		case at.Before(one.last):
		case at.Equal(one.last):
			if known > 0 {
				known--
				return nil
			}
			one.count++
		default:
			one.last, one.count, known = at, 1, 0
		}
		one.mu.Lock()
		defer one.mu.Unlock()
		f.console.write(entry.GetStream(), one.lines.add(one.id, entry.GetStream(), entry.GetData()))
		return nil
	})
}

// finishLines prints lines that have begun and will not be ended any more.
func (f *follower) finishLines(one *followed) {
	one.mu.Lock()
	defer one.mu.Unlock()
	f.console.write("stdout", one.lines.rest())
}
