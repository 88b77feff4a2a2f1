// Command bench measures what purser adds to a launch, or saves. First it holds
// calls of an OCI runtime through purser-oci against the same calls without. Then
// it starts `purser dev` on a directory of its own for each containerd it is given
// and compares, on the same containerd, image and runtime, in rounds and in another
// order in each so that the machine's moods hit all alike:
//
//	purser run … true            with   ctr run --rm … true     (whole commands)
//	Launch until it runs, by API with   a plain containerd client's
//	                                    NewContainer, NewTask, Start
//
// the latter with a shim for each container and, on a second node of the same kind,
// with one that the app's instances share. Then it has several launched at the same
// time, and compares the time until all run, by their number.
//
// With -rotation it measures instead how soon, and how fast, workloads move to a new
// version of a secret, and what one costs that nobody uses: on the last containerd it is
// given alone, as that is about the agent.
//
// Rounds have pauses between the measurements, as launches have in life:
// joining cgroups costs several times as much after a pause as in a hot loop.
// It prints medians with the goals they are held against; run it on a quiet
// machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

// pause is the time between two measurements.
const pause = 100 * time.Millisecond

func main() {
	rounds := flag.Int("rounds", 30, "measurements of each kind")
	containerds := flag.String("containerd", defaultContainerds(), "comma-separated paths of containerd; none measures purser-oci alone")
	rotations := flag.Bool("rotation", false, "measure how workloads move to new versions of secrets, and no launches")
	flag.Parse()
	do := launches
	if *rotations {
		do = rotation
	}
	if err := do(*rounds, *containerds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// rotation measures how workloads move to new versions of secrets.
func rotation(rounds int, containerds string) error {
	last := containerds[strings.LastIndexByte(containerds, ',')+1:]
	return errors.Join(measureRotation(context.Background(), last, rounds), measureDirectory(context.Background(), last, rounds))
}

func launches(rounds int, containerds string) error {
	ctx := context.Background()
	// The shorter the times, the more of them it takes for a median to stand still.
	if err := measureWrapper(ctx, 4*rounds); err != nil {
		return err
	}
	for path := range strings.SplitSeq(containerds, ",") {
		if path == "" {
			continue
		}
		if err := compare(ctx, path, rounds); err != nil {
			return err
		}
	}
	return nil
}

func defaultContainerds() string {
	tools := os.Getenv("PURSER_TEST_TOOLS")
	if tools == "" {
		tools = "/opt/purser-test"
	}
	return "/usr/bin/containerd," + filepath.Join(tools, "containerd-2.4.2/bin/containerd")
}

// contender is one way to launch, and how long each of its launches took.
type contender struct {
	name   string
	launch func(context.Context) (time.Duration, error)
	times  []time.Duration
}

func (c *contender) median() time.Duration {
	slices.Sort(c.times)
	return c.times[len(c.times)/2]
}

// pair is a comparison with the goal that the first takes no more than this
// times what the second takes.
type pair struct {
	ours, theirs *contender
	goal         float64
}

// compare measures on one containerd, and on another of its kind for the node that
// shares shims.
func compare(ctx context.Context, containerd string, rounds int) error {
	n, err := startNode(ctx, containerd, "none", "")
	if err != nil {
		return err
	}
	defer n.stop()
	shared, err := startNode(ctx, containerd, "app", "")
	if err != nil {
		return err
	}
	defer shared.stop()
	plain := alone("plain client until it runs", n.plainClient)
	pairs := []pair{
		{&contender{name: "purser run", launch: n.purserRun}, &contender{name: "ctr run --rm", launch: n.ctrRun}, 1.00},
		{alone("Launch until it runs", n.apiLaunch), plain, 1.05},
		{alone("the same, shim shared", shared.apiLaunch), plain, 1.00},
	}
	if err := measure(ctx, rounds, contenders(pairs)); err != nil {
		return err
	}
	report(fmt.Sprintf("containerd %s, runc, medians of %d", n.version, rounds), pairs)
	plain = atOnce("plain client until it runs", n.plainClient)
	pairs = []pair{
		{atOnce("Launch until it runs", n.apiLaunch), plain, 1.05},
		{atOnce("the same, shim shared", shared.apiLaunch), plain, 1.00},
	}
	rounds = max(3, rounds/4)
	if err := measure(ctx, rounds, contenders(pairs)); err != nil {
		return err
	}
	report(fmt.Sprintf("containerd %s, runc, %d at the same time until all run, a part for each, medians of %d", n.version, crowdSize, rounds), pairs)
	return nil
}

// contenders are those of the pairs, each once.
func contenders(pairs []pair) []*contender {
	var all []*contender
	for _, p := range pairs {
		for _, c := range []*contender{p.ours, p.theirs} {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all
}

// crowdSize is how many are launched at the same time.
const crowdSize = 8

// launch starts a container, and returns how long it took and what removes it.
type launch func(context.Context) (took time.Duration, remove func() error, err error)

// alone has it launched by itself.
func alone(name string, do launch) *contender {
	return &contender{name: name, launch: func(ctx context.Context) (time.Duration, error) {
		took, remove, err := do(ctx)
		if err != nil {
			return 0, err
		}
		return took, remove()
	}}
}

// atOnce has several launched at the same time, and takes an equal part of the whole
// for each.
func atOnce(name string, do launch) *contender {
	return &contender{name: name, launch: func(ctx context.Context) (time.Duration, error) {
		var launches, removals errgroup.Group
		remove := make([]func() error, crowdSize)
		began := time.Now()
		for i := range crowdSize {
			launches.Go(func() (err error) {
				_, remove[i], err = do(ctx)
				return err
			})
		}
		if err := launches.Wait(); err != nil {
			return 0, err
		}
		took := time.Since(began)
		for _, r := range remove {
			removals.Go(r)
		}
		return took / crowdSize, removals.Wait()
	}}
}

// measure lets each contender launch once a round.
func measure(ctx context.Context, rounds int, all []*contender) error {
	for round := range rounds + 2 {
		// In another order each time: what one leaves to be done after it, such
		// as containerd's garbage collection, slows the next.
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, c := range all {
			time.Sleep(pause)
			took, err := c.launch(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round >= 2 { // the first ones warm caches up
				c.times = append(c.times, took)
			}
		}
	}
	return nil
}

func report(heading string, pairs []pair) {
	fmt.Println(heading)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, p := range pairs {
		ours, theirs := p.ours.median(), p.theirs.median()
		ratio := float64(ours) / float64(theirs)
		verdict := "met"
		if ratio > p.goal {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%.1f ms\t%s\t%.1f ms\tratio %.2f\tgoal %.2f %s\t\n",
			p.ours.name, ms(ours), p.theirs.name, ms(theirs), ratio, p.goal, verdict)
	}
	w.Flush()
	fmt.Println()
}

func reportOverheads(rounds int, all []overhead) {
	fmt.Printf("purser-oci, medians of %d\n", rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, o := range all {
		with, without := o.with.median(), o.without.median()
		more := with - without
		verdict := "met"
		if more > o.goal {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%.2f ms\t%s\t%.2f ms\tmore %.2f ms\tgoal %.2f ms %s\t\n",
			o.with.name, ms(with), o.without.name, ms(without), ms(more), ms(o.goal), verdict)
	}
	w.Flush()
	fmt.Println()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
