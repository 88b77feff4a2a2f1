package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
)

// patience is how long the node may take to come to rest after a round.
const patience = 60 * time.Second

// rest waits until everything is as it is wanted, and then checks everything that the
// model knows. It returns what is wrong.
func (n *node) rest(m *model) (wrong []string) {
	var found map[string]world
	var states map[string]*purserv1.Workload
	var here map[string][]process
	reasons := map[string]string{}
	rig.ComesTrue(patience, func() bool {
		var err error
		if states, err = n.states(); err == nil {
			err = n.lookUp(m)
		}
		if err != nil {
			reasons = map[string]string{"agent": err.Error()}
			return false
		}
		here = n.byWorkload()
		found, reasons = map[string]world{}, map[string]string{}
		for name, t := range m.things {
			is, why := m.settled(t, states[t.id()], here[t.id()])
			if found[name] = is; why != "" {
				reasons[name] = why
			}
		}
		return len(reasons) == 0
	})
	for name, why := range reasons {
		wrong = append(wrong, fmt.Sprintf("%s does not come to rest: %s", name, why))
	}
	if len(wrong) > 0 {
		return wrong
	}
	for _, name := range m.names() {
		t := m.things[name]
		wrong = append(wrong, m.judge(t, found[name], states[t.id()], here[t.id()], n.told(name))...)
	}
	wrong = append(wrong, m.judgeSecrets(states)...)
	m.away = 0
	wrong = append(wrong, n.leftovers(m)...)
	wrong = append(wrong, n.badOutput(m)...)
	n.mu.Lock()
	defer n.mu.Unlock()
	wrong = append(wrong, n.wrong...)
	n.wrong = nil
	return wrong
}

// states are what the agent says, by ID.
func (n *node) states() (map[string]*purserv1.Workload, error) {
	list, err := ask(n.api.Workloads.List, &purserv1.ListRequest{Environment: environment})
	if err != nil {
		return nil, err
	}
	all := map[string]*purserv1.Workload{}
	for _, w := range list.GetWorkloads() {
		all[w.GetId()] = w
	}
	return all, nil
}

func (n *node) byWorkload() map[string][]process {
	all := map[string][]process{}
	for _, p := range n.running() {
		all[p.workload] = append(all[p.workload], p)
	}
	return all
}

// twice looks for workloads of which more than one instance runs, or more than two in a
// rolling change.
func (n *node) twice() (wrong []string) {
	for id, all := range n.byWorkload() {
		most := 1
		if slots[strings.TrimPrefix(id, "c/")] == roller {
			most = 2
		}
		if len(all) > most {
			wrong = append(wrong, fmt.Sprintf("%s runs %d times: %s and %s", id, len(all), all[0].instance, all[1].instance))
		}
	}
	return wrong
}

// instanceName is how instances are called.
var instanceName = regexp.MustCompile(`\b[a-z2-7]{13}\b`)

// leftovers are what there is of instances that the agent does not have any more. One
// that is just being deleted is gone a moment later.
func (n *node) leftovers(m *model) (wrong []string) {
	var left map[string][]string
	var err error
	rig.ComesTrue(15*time.Second, func() bool {
		var now map[string][]string
		if now, err = n.unexplained(); err != nil {
			return false // who has seen nothing has not seen that there is nothing
		}
		if left == nil {
			left = now
		}
		for id := range left {
			if left[id] = now[id]; len(left[id]) == 0 {
				delete(left, id)
			}
		}
		return len(left) == 0
	})
	if err != nil {
		wrong = append(wrong, fmt.Sprintf("looking for what is left: %v", err))
	}
	for id, where := range left {
		wrong = append(wrong, fmt.Sprintf("of instance %s there is left: %v", id, where))
	}
	most := 3 * len(m.things)
	if !rig.ComesTrue(15*time.Second, func() bool { return n.logsKept() <= most }) {
		wrong = append(wrong, fmt.Sprintf("%d logs are kept of %d workloads", n.logsKept(), len(m.things)))
	}
	return wrong
}

func (n *node) logsKept() int {
	logs, _ := os.ReadDir(n.path("s/logs"))
	return len(logs)
}

// unexplained are all traces of instances that are not those of the agent.
func (n *node) unexplained() (map[string][]string, error) {
	states, err := n.states()
	if err != nil {
		return nil, fmt.Errorf("asking the agent: %w", err)
	}
	traces, err := n.traces()
	if err != nil {
		return nil, fmt.Errorf("asking containerd: %w", err)
	}
	for _, w := range states {
		for _, i := range w.GetInstances() {
			delete(traces, i.GetId())
		}
	}
	return traces, nil
}

// traces are where instances show: in containerd, in directories, mounts, cgroups and
// command lines.
func (n *node) traces() (map[string][]string, error) {
	found := map[string][]string{}
	note := func(where, text string) {
		for _, id := range instanceName.FindAllString(text, -1) {
			if !slices.Contains(found[id], where) {
				found[id] = append(found[id], where)
			}
		}
	}
	if err := n.inContainerd(note); err != nil {
		return nil, err
	}
	for _, dir := range []string{"r", "s/rootfs", "state", "root/io.containerd.runtime.v2.task"} {
		_ = filepath.WalkDir(n.path(dir), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && instanceName.MatchString(e.Name()) {
				note("a directory in "+filepath.Dir(path), e.Name())
				return fs.SkipDir
			}
			return nil
		})
	}
	for _, path := range rig.Mounts(n.daemon.Dir) {
		note("a mount", path)
	}
	attachments, _ := filepath.Glob(n.path("s/network/attachments/*"))
	for _, path := range attachments {
		record, _ := os.ReadFile(path)
		_, owner, _ := strings.Cut(string(record), `"owner":`)
		note("a network namespace", owner)
	}
	for _, path := range n.daemon.Cgroups() {
		note("a cgroup", filepath.Base(path))
	}
	for _, pid := range rig.Processes(n.daemon.Dir, "containerd-shim", "runc", "purser-oci") {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		note(fmt.Sprintf("process %d", pid), strings.ReplaceAll(string(line), "\x00", " "))
	}
	for _, p := range n.running() {
		note(fmt.Sprintf("process %d of the container", p.pid), p.instance)
	}
	return found, nil
}

func (n *node) inContainerd(note func(where, id string)) error {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), "purser"), 10*time.Second)
	defer cancel()
	containers, err := n.below.ContainerService().List(ctx)
	if err != nil {
		return err
	}
	for _, c := range containers {
		note("a record in containerd", c.ID)
	}
	all, err := n.below.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return err
	}
	for _, t := range all.GetTasks() {
		note("a task in containerd", t.GetID())
	}
	return n.below.SnapshotService("overlayfs").Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		note("a snapshot", info.Name)
		if info.Kind == snapshots.KindActive && !instanceName.MatchString(info.Name) {
			note("a snapshot that is written to: "+info.Name, "aaaaaaaaaaaaa")
		}
		return nil
	})
}

// badOutput finds gaps, doubles and secrets in the logs, as they are in their files.
func (n *node) badOutput(m *model) (wrong []string) {
	for name, t := range m.things {
		truth := n.told(name)
		for _, instance := range truth.starts[max(0, len(truth.starts)-4):] {
			_, over := truth.exits[instance]
			first := over && !m.heard[instance]
			m.heard[instance] = m.heard[instance] || over
			// A shim takes what it has in hand along.
			over = first && !m.killed[instance] && !m.unheld
			text := n.log(instance)
			if text == "" {
				continue
			}
			if why := badLines(t.kind, text, over); why != "" {
				wrong = append(wrong, fmt.Sprintf("%s: the log of %s: %s", t.id(), instance, why))
			}
			for _, value := range m.all {
				if strings.Contains(text, value) {
					wrong = append(wrong, fmt.Sprintf("%s: the log of %s has a secret", t.id(), instance))
				}
			}
		}
	}
	return wrong
}

// log is the text of an instance's log: its whole lines. A segment that goes while it
// is read would leave a gap.
func (n *node) log(instance string) string {
	for range 20 {
		if text, whole := n.readLog(instance); whole {
			return text
		}
	}
	return ""
}

func (n *node) readLog(instance string) (string, bool) {
	var text strings.Builder
	for _, path := range n.segments(instance) {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", false
		}
		for line := range bytes.Lines(data) {
			parts := bytes.SplitN(line, []byte(" "), 4)
			if len(parts) < 4 || !bytes.HasSuffix(line, []byte("\n")) {
				continue // it is being written
			}
			text.Write(bytes.TrimSuffix(parts[3], []byte("\n")))
			if string(parts[2]) == "F" {
				text.WriteByte('\n')
			}
		}
	}
	return text.String(), true
}

func (n *node) segments(instance string) []string {
	paths, _ := filepath.Glob(n.path("s/logs/" + instance + "/*.log"))
	number := func(path string) int {
		i, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".log"))
		return i
	}
	slices.SortFunc(paths, func(a, b string) int { return number(a) - number(b) })
	return paths
}

// badLines says what is wrong with the lines that a payload of a kind has written.
func badLines(k kind, text string, over bool) string {
	lines := strings.Split(text[:strings.LastIndex(text, "\n")+1], "\n")
	lines = lines[:len(lines)-1]
	if k == flood && len(lines) > 0 {
		lines = lines[1:] // of the oldest segment, it may be the rest of one
	}
	next, last := -1, ""
	if k != flood {
		next = 0
	}
	for _, line := range lines {
		last = line
		text, numbered := strings.CutPrefix(line, "n ")
		if k == flood {
			text, numbered = line, true
		}
		switch number, err := strconv.Atoi(text); {
		case numbered && (err != nil || next >= 0 && number != next):
			return fmt.Sprintf("%q where %d should be", line, next)
		case numbered:
			next = number + 1
		case strings.HasPrefix(line, "[purser:"):
			return line
		case strings.HasPrefix(line, "v ") && k != reader && line != "v [secret:"+k.secretName()+"/KEY]":
			return "a secret is not hidden as it should be"
		}
	}
	if over && slices.Contains([]kind{ticker, files, turner, roller, reader}, k) && !strings.HasPrefix(last, "bye ") {
		return fmt.Sprintf("the last line is %q", last)
	}
	return ""
}
