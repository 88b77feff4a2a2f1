package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/failpoint"
)

var (
	seed  = flag.Uint64("chaos.seed", 1, "`N` that all decisions come from; 0 for another one each time")
	lasts = flag.Duration("chaos.for", 15*time.Second, "how `long` random rounds go on, on each containerd")
	only  = flag.String("chaos.containerd", "", "`VERSION` of the one containerd to use: 1.6 or 2.4")
	whole = flag.Bool("chaos.whole", false, "sweep all steps on each containerd, with errors too, not half of them")
)

// TestMain moves to a network namespace: the nodes have bridges.
func TestMain(m *testing.M) {
	rig.OwnNetwork()
	m.Run()
}

// The nodes: each with what the others do not have.
var nodes = []settings{
	{version: rig.V16, runtimes: []string{"runc"}, disk: true},
	{version: rig.V24, runtimes: []string{"runc", "crun"}, disk: true},
}

// TestChaos has everything die, at every named step and at random, and finds nothing
// lost, doubled, left or told.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	for i, s := range nodes {
		if *only != "" && *only != string(s.version) {
			continue
		}
		t.Run(fmt.Sprintf("containerd %s", s.version), func(t *testing.T) {
			t.Parallel()
			c := begin(t, s, *seed+uint64(i))
			defer c.report()
			ctx, cancel := context.WithCancel(t.Context())
			var watching sync.WaitGroup
			watching.Go(func() { c.watchDoubles(ctx) })
			defer watching.Wait()
			defer cancel()
			c.sweepAll(i)
			for number, until := 1, time.Now().Add(*lasts); time.Now().Before(until); number++ {
				c.round(number)
			}
			c.end()
		})
	}
}

// sweepAll takes all steps, or every second one, some at a time.
func (c *chaos) sweepAll(node int) {
	var points, missed []string
	for i, point := range failpoint.Names {
		if *whole || i%2 == node%2 {
			points = append(points, point)
		}
	}
	c.rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	for some := range slices.Chunk(points, 6) {
		missed = append(missed, c.sweep(some, "kill")...)
		if *whole {
			c.sweep(some, "error")
		}
	}
	// One that dies early may keep the others from being reached.
	for _, point := range missed {
		if left := c.sweep([]string{point}, "kill"); len(left) > 0 {
			c.t.Errorf("nothing passes step %s", point)
		}
	}
}

// end removes everything, and finds nothing left: not on the disk either.
func (c *chaos) end() {
	for _, name := range c.m.names() {
		c.remove(c.m.things[name])
	}
	c.check("the end")
	c.n.close()
	if c.n.device == "" || c.t.Failed() {
		return
	}
	for i, value := range c.m.all {
		if i > 5 && i < len(c.m.all)-5 {
			continue // each search reads the whole device
		}
		if forms := rig.FormsOn(c.t, c.n.device, value); len(forms) > 0 {
			c.t.Errorf("value %d is on the disk: %v", i, forms)
		}
	}
}

func (c *chaos) report() {
	all := 0
	for _, what := range slices.Sorted(maps.Keys(c.kills)) {
		c.say("killed: %s %d times", what, c.kills[what])
		all += c.kills[what]
	}
	c.say("%d kills; %d agents ended; steps at which something died or failed: %d of %d", all, c.n.deaths, len(c.hits), len(failpoint.Names))
}
