package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// What containers leave is removed, counted and told of, while what runs is let alone.
func TestLeaks(t *testing.T) {
	t.Parallel()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			n := emptyNodeWith(t, v, "[sweep]\nperiod = '1s'\n")
			n.must("image", "import", boxImage(t))
			testLeaks(t, n)
		})
	}
}

func testLeaks(t *testing.T, n *node) {
	before := n.deploySleeper()
	// Whatever is there when the first sweep looks is not counted: wait until it has.
	n.plant("run/instances/first/stdout")
	n.eventually("the first sweeps", func() bool { return !n.has("run/instances/first") })
	counted := n.leaks()

	left := map[string]string{
		"files":        "run/instances/gone",
		"secret_files": "run/private/files/gone",
		"output":       "run/private/logs/instances/gone",
		"rootfs":       "state/rootfs/gone",
		"log":          "state/logs/gone",
	}
	for _, path := range left {
		n.plant(path+"/spec.json", path+"/about.json", path+"/upper/file", path+"/work/file")
	}
	spared := []string{"run/own/file", "state/rootfs/backup/file", "state/logs/notes/file"}
	n.plant(spared...)
	for kind, path := range left {
		n.eventually(path+" to go", func() bool { return !n.has(path) })
		n.eventually("a count of "+kind, func() bool { return n.leaks()[kind] == counted[kind]+1 })
	}
	for kind, count := range n.leaks() {
		if left[kind] == "" && count != 0 {
			t.Errorf("%d of kind %s", count, kind)
		}
	}
	events := n.must("events")
	for kind, path := range left {
		if !strings.Contains(events, "container gone is gone and had left something behind ("+kind+": ") {
			t.Errorf("no event of %s:\n%s", path, events)
		}
	}
	for _, path := range spared {
		if !n.has(path) {
			t.Errorf("%s is gone, which was nothing of purser's", path)
		}
	}
	if after := n.get("a/f"); after.pid() != before.pid() || after.State != "running" {
		t.Errorf("it was %+v and is %+v", before, after)
	}
}

// plant makes files below the node's directory.
func (n *node) plant(paths ...string) {
	n.t.Helper()
	for _, path := range paths {
		rig.Plant(n.t, filepath.Join(n.dir, path))
	}
}

func (n *node) has(path string) bool {
	_, err := os.Stat(filepath.Join(n.dir, path))
	return err == nil
}

// leaks are the agent's counts, by kind.
func (n *node) leaks() map[string]int {
	n.t.Helper()
	all := map[string]int{}
	for line := range strings.Lines(n.scrape()) {
		if rest, ok := strings.CutPrefix(line, `purser_leaks_total{kind="`); ok {
			kind, count, _ := strings.Cut(strings.TrimSpace(rest), `"} `)
			all[kind], _ = strconv.Atoi(count)
		}
	}
	if len(all) == 0 {
		n.t.Fatal("there is no purser_leaks_total")
	}
	return all
}

// However often the agent is killed, no sweep has anything to tell, and in the end
// nothing is left but of what is known.
func TestLaunchesLeaveNothing(t *testing.T) {
	t.Parallel()
	n := emptyNodeWith(t, rig.V24, "[sweep]\nperiod = '1s'\n")
	n.must("image", "import", boxImage(t))
	const jobs, rounds = 10, 5
	for round := range rounds {
		var app strings.Builder
		app.WriteString("app: a\nfunctions:\n")
		for job := range jobs {
			fmt.Fprintf(&app, "  - {function: f%d, kind: job, image: {ref: %s}, command: [sh, -c, 'exit 0'], env: {ROUND: \"%d\"}, retries: 5}\n", job, image, round)
		}
		n.deploy(app.String())
		n.killAgent()
		for job := range jobs {
			n.await(fmt.Sprintf("a/f%d", job), "completed", inState("completed"))
		}
	}
	n.eventually("nothing to be left of containers", func() bool {
		return len(n.entries("run/instances"))+len(n.entries("state/rootfs"))+len(n.entries("run/private/logs/instances")) == 0
	})
	log, err := os.ReadFile(filepath.Join(n.dir, "log", "agent.log"))
	if leaked := grep(string(log), `"event":"Leaked"`); err != nil || leaked != "" {
		t.Errorf("something was left: %v\n%s", err, leaked)
	}
	if inherited := grep(string(log), "left by an earlier agent"); inherited != "" {
		t.Logf("left by agents that were killed:\n%s", inherited)
	}
}

func (n *node) entries(dir string) []os.DirEntry {
	all, _ := os.ReadDir(filepath.Join(n.dir, dir))
	return all
}

// grep returns the lines that have a text.
func grep(text, what string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, what) {
			found.WriteString(line)
		}
	}
	return found.String()
}
