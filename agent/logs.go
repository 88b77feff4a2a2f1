package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/logs"
)

// warnOfJournal tells when there is no journal for what containers write.
func (a *Agent) warnOfJournal() {
	if a.cfg.Logs.Journald && !systemd.Enabled() {
		a.log.Warn("output is to go to systemd's journal (logs.journald in the configuration), which is not there: it goes to the log files alone")
	}
}

// logLimits are what the configuration says.
func (a *Agent) logLimits() logs.Limits {
	return logs.Limits{Size: int64(a.cfg.Logs.SegmentSize), Segments: a.cfg.Logs.Segments}
}

// linkLogs has the logs found by who knows the agent's socket alone.
func linkLogs(cfg *config.Config) error {
	if err := os.Remove(config.LogLink(cfg.Socket)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing the link to the logs: %w", err)
	}
	if err := os.Symlink(filepath.Join(cfg.StateDir, logDir), config.LogLink(cfg.Socket)); err != nil {
		return fmt.Errorf("linking to the logs: %w", err)
	}
	return nil
}

// logDir, in the state directory, has the logs.
const logDir = "logs"

// Logs sends what a workload, or all functions of an app, wrote.
func (a *Agent) Logs(ctx context.Context, request *purserv1.LogsRequest, send func(*purserv1.LogsResponse) error) error {
	if request.GetApp() != "" {
		return a.appLogs(ctx, request, send)
	}
	w, err := a.get(request.GetEnvironment(), request.GetId())
	if err != nil {
		return err
	}
	return w.logs(ctx, request, send)
}

// appLogs merges the logs of an app's functions: by time what is there; as it
// comes when it follows.
func (a *Agent) appLogs(ctx context.Context, request *purserv1.LogsRequest, send func(*purserv1.LogsResponse) error) error {
	all := a.functionsOf(orDev(request.GetEnvironment()), request.GetApp())
	if len(all) == 0 {
		return refuse(NotFound, "no function of app %s in environment %s", request.GetApp(), orDev(request.GetEnvironment()))
	}
	if request.GetFollow() {
		return followAll(ctx, all, request, send)
	}
	return a.mergedLogs(ctx, all, request, send)
}

// mergedLogs sends what is there of several workloads, by time.
func (a *Agent) mergedLogs(ctx context.Context, all []*workload, request *purserv1.LogsRequest, send func(*purserv1.LogsResponse) error) error {
	var ids []string
	var logged []iter.Seq2[logs.Entry, error]
	for _, w := range all {
		v, _ := w.supervisor.View()
		if instance := instanceOf(v, request.GetPrevious()); instance != "" {
			ids = append(ids, w.id())
			logged = append(logged, a.runtime.Logs().Read(ctx, instance, readOptions(request)))
		}
	}
	for e, err := range logs.Merge(logged...) {
		if err != nil {
			return err
		}
		if err := send(response(ids[e.Log], e.Entry)); err != nil {
			return err
		}
	}
	return nil
}

// readOptions are what a request asks for.
func readOptions(request *purserv1.LogsRequest) logs.ReadOptions {
	return logs.OptionsOf(request.GetSince(), request.Tail, request.GetFollow() && !request.GetPrevious())
}

func response(id string, e logs.Entry) *purserv1.LogsResponse {
	return &purserv1.LogsResponse{Id: id, Stream: string(e.Stream), Time: timestamppb.New(e.Time), Data: e.Data}
}

// followAll follows workloads side by side.
func followAll(ctx context.Context, all []*workload, request *purserv1.LogsRequest, send func(*purserv1.LogsResponse) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	send = oneByOne(send)
	var followers sync.WaitGroup
	for _, w := range all {
		followers.Go(func() {
			if err := w.logs(ctx, request, send); err != nil {
				cancel(err)
			}
		})
	}
	followers.Wait()
	return context.Cause(ctx)
}

// logs sends what the workload's instance wrote and, following, what each
// instance after it writes until the workload has ended.
func (w *workload) logs(ctx context.Context, request *purserv1.LogsRequest, send func(*purserv1.LogsResponse) error) error {
	options := readOptions(request)
	if options.Follow {
		return w.follow(ctx, options, send)
	}
	v, _ := w.supervisor.View()
	id := instanceOf(v, request.GetPrevious())
	if id == "" || !request.GetPrevious() && !readable(v, false) {
		return nil
	}
	return w.send(ctx, id, options, send)
}

// follow reads one instance after the other, but for those of a rolling change, which
// run side by side: what is wrong with the new one must not show only once the old one
// has ended.
func (w *workload) follow(ctx context.Context, options logs.ReadOptions, send func(*purserv1.LogsResponse) error) error {
	readers, ctx := errgroup.WithContext(ctx)
	send = oneByOne(send)
	began := time.Now()
	ends := map[string]chan struct{}{} // of instances that are, or were, read: closed when they have been
	last := ""                         // the one of them that was wanted last
	var reading chan struct{}          // its end; nil once that has come
	for {
		v, changed := w.supervisor.View()
		id := instanceOf(v, false)
		switch {
		case id == "" || id == last:
		case ends[id] != nil: // the workload has gone back to it, which is read already
			last, reading = id, ends[id]
			continue
		case readable(v, true) && (reading == nil || keeps(v, last)):
			last, reading = id, make(chan struct{})
			ends[id] = reading
			read, done := options, reading
			readers.Go(func() error {
				defer close(done)
				return w.send(ctx, id, read, send)
			})
			// A later instance is shown from its beginning; one that was gone back to from now on.
			options.Tail, options.Since = -1, began
			continue
		}
		if reading == nil && (v.Gone || v.Settled()) {
			return readers.Wait()
		}
		select {
		case <-changed:
		case <-reading:
			reading = nil
		case <-ctx.Done():
			return cmp.Or(readers.Wait(), ctx.Err())
		}
	}
}

// keeps says whether an instance is kept beside another.
func keeps(v supervise.View, instance string) bool {
	return v.Status.Kept != nil && v.Status.Kept.Instance.ID == instance
}

// oneByOne has calls of send wait for each other.
func oneByOne(send func(*purserv1.LogsResponse) error) func(*purserv1.LogsResponse) error {
	var mu sync.Mutex
	return func(r *purserv1.LogsResponse) error {
		mu.Lock()
		defer mu.Unlock()
		return send(r)
	}
}

// instanceOf is the instance whose output is meant.
func instanceOf(v supervise.View, previous bool) string {
	if previous {
		return v.Status.Previous
	}
	return v.Status.LastInstance()
}

// readable says whether the instance's output exists: it does from the start on.
// That of an earlier agent's can be followed once it has been taken up.
func readable(v supervise.View, follow bool) bool {
	i := v.Status.Container(v.Status.LastInstance())
	if i == nil {
		i = v.Status.Instance
	}
	if i == nil || i.Ended {
		return true
	}
	return !i.StartedAt.IsZero() && !(follow && i.Unverified)
}

func (w *workload) send(ctx context.Context, instance string, options logs.ReadOptions, send func(*purserv1.LogsResponse) error) error {
	for entry, err := range w.agent.runtime.Logs().Read(ctx, instance, options) {
		if err != nil {
			return err
		}
		if err := send(response(w.id(), entry)); err != nil {
			return err
		}
	}
	return nil
}

// outdate notes the instances whose logs nobody can ask for any more.
func (w *workload) outdate(old, now supervise.Status) {
	kept := now.Instances()
	for _, id := range old.Instances() {
		if !slices.Contains(kept, id) {
			w.mu.Lock()
			w.stale = append(w.stale, id)
			w.mu.Unlock()
		}
	}
}

// dropOutdated drops the logs of such instances.
func (w *workload) dropOutdated() {
	w.mu.Lock()
	stale := w.stale
	w.stale = nil
	w.mu.Unlock()
	for _, id := range stale {
		w.dropLog(id)
	}
}

// removeLogs drops what a workload that is forgotten had written.
func (w *workload) removeLogs() {
	w.dropOutdated()
	v, _ := w.supervisor.View()
	for _, id := range v.Status.Instances() {
		w.dropLog(id)
	}
}

func (w *workload) dropLog(instance string) {
	if instance == "" {
		return
	}
	if err := w.agent.runtime.Logs().Remove(instance); err != nil {
		w.agent.log.Warn("cannot remove the log of an instance", "instance", instance, "error", err)
	}
}
