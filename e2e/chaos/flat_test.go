package chaos

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
)

var (
	warm     = flag.Int("flat.warm", 50, "`N` launches before the first look at the agent")
	launches = flag.Int("flat.launches", 100, "`N` launches between the first look and the last; 9000 after 1000 by hand")
)

// sizes are how large the agent is, by metric, and what may come on top by the end.
var sizes = map[string]func(before float64) float64{
	"go_goroutines":                func(before float64) float64 { return before + 10 },
	"process_open_fds":             func(before float64) float64 { return before + 10 },
	"go_memstats_heap_inuse_bytes": func(before float64) float64 { return 1.25*before + 4<<20 },
	"process_resident_memory_bytes": func(before float64) float64 {
		return 1.25*before + 8<<20
	},
}

// TestFlat launches one short job after the other, some at a time, and finds the agent
// as large as before, and nothing left of them.
func TestFlat(t *testing.T) {
	n := newNode(t, settings{version: rig.V24, runtimes: []string{"runc"}})
	n.shortJobs(0, *warm)
	before := n.size()
	t.Logf("after %d launches: %v", *warm, before)
	var after map[string]float64
	for done := *warm; done < *warm+*launches; {
		some := min(1000, *warm+*launches-done)
		n.shortJobs(done, some)
		done += some
		after = n.size()
		t.Logf("after %d launches: %v", done, after)
	}
	for name, most := range sizes {
		if after[name] > most(before[name]) {
			t.Errorf("%s was %.0f and is %.0f", name, before[name], after[name])
		}
	}
	for _, what := range n.leftovers(newModel()) {
		t.Error(what)
	}
	n.close()
}

// shortJobs launches jobs, waits for their ends, and removes them, eight at a time.
func (n *node) shortJobs(from, count int) {
	n.t.Helper()
	var next atomic.Int64
	next.Store(int64(from))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := int(next.Add(1)); i <= from+count; i = int(next.Add(1)) {
				if err := n.shortJob(fmt.Sprintf("j%d", i)); err != nil {
					n.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func (n *node) shortJob(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id := "flat/" + name
	_, err := n.api.Workloads.Launch(ctx, connect.NewRequest(&purserv1.LaunchRequest{Spec: &purserv1.LaunchSpec{
		App: proto.String("flat"), Function: proto.String(name), Environment: proto.String(environment), Kind: proto.String("job"),
		Image: &purserv1.Image{Ref: proto.String(image)}, Command: []string{"echo", name},
	}}))
	if err != nil {
		return fmt.Errorf("launching %s: %w", id, err)
	}
	w, err := n.api.Workloads.Wait(ctx, connect.NewRequest(&purserv1.WaitRequest{Environment: environment, Id: id, Until: "finished"}))
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", id, err)
	}
	if state := w.Msg.GetWorkload().GetState(); state != "completed" {
		return fmt.Errorf("%s is %s: %s", id, state, w.Msg.GetWorkload().GetReason())
	}
	if _, err := n.api.Workloads.Remove(ctx, connect.NewRequest(&purserv1.RemoveRequest{Environment: environment, Id: id})); err != nil {
		return fmt.Errorf("removing %s: %w", id, err)
	}
	return nil
}

// size is how large the agent is when it is at rest: the least of some looks, as garbage
// is collected at its own time.
func (n *node) size() map[string]float64 {
	n.t.Helper()
	least := map[string]float64{}
	for range 15 {
		for name, value := range n.metrics() {
			if least[name] == 0 || value < least[name] {
				least[name] = value
			}
		}
		<-time.After(200 * time.Millisecond)
	}
	return least
}

// metrics are those of sizes, as Prometheus gets them.
func (n *node) metrics() map[string]float64 {
	n.t.Helper()
	is, err := ask(n.api.Node.Get, &purserv1.GetNodeRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	response, err := http.Get("http://" + is.GetMetricsAddress() + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, wanted := sizes[name]; wanted {
			var number float64
			_, _ = fmt.Sscan(value, &number)
			all[name] = number
		}
	}
	return all
}
