package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// forwarders are the process IDs of the node's port forwarders.
func (n *node) forwarders() []int {
	return rig.Processes(n.dir, "port-forwarder --dir")
}

// forwarder is the process ID of the only one.
func (n *node) forwarder() int {
	n.t.Helper()
	found := n.forwarders()
	if len(found) != 1 {
		n.t.Fatalf("port forwarders: %v", found)
	}
	return found[0]
}

// awaitEnd waits until a process has ended, and returns when it had.
func awaitEnd(t *testing.T, pid int, limit time.Duration, do func()) time.Time {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	do()
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(limit); ; {
		n, err := unix.Poll(ended, int(time.Until(deadline).Milliseconds()))
		if err == nil && n == 1 {
			return time.Now()
		}
		if err != unix.EINTR {
			t.Fatalf("process %d has not ended: %v", pid, err)
		}
	}
}

// awaitStopped waits until no thread of a process goes on: one that runs on another processor
// takes its time to notice a signal.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	stopped := func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		return len(threads) > 0 && !slices.ContainsFunc(threads, func(path string) bool {
			stat, _ := os.ReadFile(path)
			_, after, _ := strings.Cut(string(stat), ") ")
			return !strings.HasPrefix(after, "T")
		})
	}
	if !rig.ComesTrue(patience, stopped) {
		t.Fatalf("process %d goes on", pid)
	}
}

// asked has the service answer until each client of a load has a connection.
func (n *node) asked() {
	n.t.Helper()
	for range 20 {
		if got, err := n.ask(port, "/"); err != nil {
			n.t.Errorf("it answers %q, %v", got, err)
		}
	}
}

// loss is the end of a forwarder, and until when it had accepted connections.
type loss struct{ accepted, end time.Time }

// hits tells whether a request has failed by it.
func (l loss) hits(f rig.LoadFailure) bool {
	return !f.Connected.IsZero() && f.Connected.Before(l.accepted) && f.At.Sub(l.end).Abs() < 3*time.Second
}

// wantOnlyEstablished checks that of a load what was established when forwarders ended has
// failed, and nothing else.
func wantOnlyEstablished(t *testing.T, report rig.LoadReport, losses ...loss) {
	t.Helper()
	for _, f := range report.Failures {
		if !slices.ContainsFunc(losses, func(l loss) bool { return l.hits(f) }) {
			t.Errorf("the forwarder did not have it when it ended: %+v", f)
		}
	}
	least, most := loadKept*len(losses), (loadKept+loadFresh)*len(losses)
	if failed := len(report.Failures); failed < least || failed > most {
		t.Errorf("%d failed, which should be %d to %d", failed, least, most)
	}
}

// When the forwarder is killed, the connections that it had accepted are lost; those that
// are made meanwhile wait.
func TestPortsWhenTheForwarderIsKilled(t *testing.T) {
	t.Parallel()
	n := bridgedNode(t, rig.V24)
	n.deploy(published(port, "0"), "--wait")
	var losses []loss
	report := n.loaded(t, func() {
		n.asked()
		for range 3 {
			before := n.forwarder()
			end := awaitEnd(t, before, patience, func() { syscall.Kill(before, syscall.SIGKILL) })
			losses = append(losses, loss{end, end})
			n.eventually("another forwarder", func() bool { return len(n.forwarders()) == 1 })
			n.asked()
		}
	})
	wantOnlyEstablished(t, report, losses...)
	if got := n.metric("purser_port_forwarder_restarts_total"); got != "3" {
		t.Errorf("%s restarts of it are counted", got)
	}
	if got, err := n.tell(port, "hello"); err != nil || !strings.HasSuffix(got, " hello") {
		t.Errorf("to a datagram it answers %q, %v", got, err)
	}
}

// One that hangs is killed, and what was connected to it is lost; what connects meanwhile
// waits.
func TestPortsWhenTheForwarderHangs(t *testing.T) {
	t.Parallel()
	n := bridgedNode(t, rig.V24)
	n.deploy(published(port, "0"), "--wait")
	hung := n.forwarder()
	var l loss
	report := n.loaded(t, func() {
		n.asked()
		l.end = awaitEnd(t, hung, patience, func() {
			syscall.Kill(hung, syscall.SIGSTOP)
			awaitStopped(t, hung)
			l.accepted = time.Now()
		})
		n.asked()
	})
	wantOnlyEstablished(t, report, l)
	if got := n.metric("purser_port_forwarder_restarts_total"); got != "1" {
		t.Errorf("%s restarts of it are counted", got)
	}
}

// An upgrade loses nothing: the earlier forwarder goes on with the connections that it has
// until they end.
func TestPortsAreUpgraded(t *testing.T) {
	t.Parallel()
	installed := t.TempDir()
	install(t, filepath.Dir(purser(t)), installed)
	n := &node{t: t, version: rig.V24, dir: rig.Dir(t), config: bridgeConfig, program: filepath.Join(installed, "purser")}
	n.startOnNetwork()
	n.must("image", "import", serviceImage(t))
	n.deploy(published(port, "0"), "--wait")
	first := n.forwarder()
	report := n.loaded(t, func() {
		for range 2 {
			before := n.forwarders()
			install(t, filepath.Dir(purser(t)), installed) // another file, which is what counts
			n.killAgent()
			n.eventually("another forwarder", func() bool {
				return slices.ContainsFunc(n.forwarders(), func(pid int) bool { return !slices.Contains(before, pid) })
			})
			if !alive(first) {
				t.Error("the forwarder that has connections has ended")
			}
			n.asked()
		}
	})
	if len(report.Failures) > 0 || len(report.Answers) != 1 {
		t.Errorf("while it was upgraded: %v", report)
	}
	n.eventually("the earlier forwarders to end", func() bool { return len(n.forwarders()) == 1 && !alive(first) })
	if got, err := n.ask(port, "/"); err != nil || got != n.get("a/f").Instances[0].ID+" 0" {
		t.Errorf("it answers %q, %v", got, err)
	}
	if got := n.metric("purser_port_forwarder_restarts_total"); got != "0" {
		t.Errorf("%s are said to have ended unasked", got)
	}
}

// What runs already cannot be refused for a port that is taken: it runs without, which is
// said, and has the port once that is free.
func TestPortTakenBetweenAgents(t *testing.T) {
	t.Parallel()
	n := bridgedNode(t, rig.V24)
	const other = 18081
	n.deploy(strings.Replace(published(port, "0"), "ports: [", fmt.Sprintf("ports: [{container: 8080, host: %d}, ", other), 1), "--wait")
	before := n.get("a/f")
	forwarder := n.forwarder()
	end := n.drive()
	awaitEnd(t, forwarder, patience, func() { end(); syscall.Kill(forwarder, syscall.SIGKILL) })
	if _, err := n.ask(port, "/"); err == nil {
		t.Error("something serves without agent and forwarder")
	}
	holder := n.onNetwork("busybox", "nc", "-l", "-p", fmt.Sprint(port), "-e", "cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	n.eventually("a process to listen", func() bool {
		if holder.Process == nil {
			if err := holder.Start(); err != nil {
				t.Fatal(err)
			}
		}
		out, _ := n.onNetwork("busybox", "netstat", "-ltn").Output()
		return strings.Contains(string(out), fmt.Sprintf(":%d ", port))
	})
	ended := func() { holder.Process.Kill(); holder.Wait() }
	defer ended()
	n.letGo()
	n.eventually("the next agent", func() bool { return n.serves() })
	n.awaitEvents("PortsNotBound")
	if said := grep(n.must("events"), "PortsNotBound"); !strings.Contains(said, fmt.Sprint(port)) || !strings.Contains(said, fmt.Sprintf("process %d ", holder.Process.Pid)) {
		t.Errorf("it does not say who has it: %s", said)
	}
	if w := n.get("a/f"); w.pid() != before.pid() || w.State != "ready" {
		t.Errorf("it was %+v and is %+v", before, w)
	}
	want := before.Instances[0].ID + " 0"
	if got, err := n.ask(other, "/"); err != nil || got != want {
		t.Errorf("at the port that is free it answers %q, %v", got, err)
	}
	ended()
	n.awaitEvents("PortsBound")
	if got, err := n.ask(port, "/"); err != nil || got != want {
		t.Errorf("it answers %q, %v", got, err)
	}
}

// What an earlier agent had published for a workload that is no more is closed.
func TestPortsOfNobody(t *testing.T) {
	t.Parallel()
	n := networkNode(t, rig.V24, bridgeConfig+"[sweep]\nperiod = '1s'\n")
	n.must("image", "import", serviceImage(t))
	n.deploy(published(port, "0"), "--wait")
	i := n.get("a/f").Instances[0]
	n.betweenAgents(func() {
		n.containerd("tasks", "rm", "--force", i.ID)
		n.containerd("containers", "rm", i.ID)
		if err := os.Remove(n.state("state.db")); err != nil {
			t.Fatal(err)
		}
	})
	n.eventually("its ports to be closed", func() bool {
		_, err := n.ask(port, "/")
		return err != nil && strings.Contains(err.Error(), "refused")
	})
	n.eventually("its address to be free", func() bool {
		return !slices.ContainsFunc(n.attachments(), func(file string) bool { return filepath.Base(file) == i.Addresses[0] })
	})
	if out := n.must("ps", "-a"); strings.Contains(out, "a/f") {
		t.Errorf("it is there:\n%s", out)
	}
}

// An instance is told to stop only when the forwarder has said that it leads nobody there
// any more, or does not say so for two seconds.
func TestPortsAreLedElsewhereBeforeAStop(t *testing.T) {
	t.Parallel()
	n := bridgedNode(t, rig.V24)
	n.deploy(published(port, "0"), "--wait")
	w := n.get("a/f")
	url := "http://" + w.Instances[0].Addresses[0] + ":8080/"
	told := func() bool { // the service says so from the signal on
		out, err := n.onNetwork("curl", "-sSi", "-m", "5", url).CombinedOutput()
		return err != nil || strings.Contains(string(out), "Connection: close")
	}
	forwarder := n.forwarder()
	syscall.Kill(forwarder, syscall.SIGSTOP)
	defer syscall.Kill(forwarder, syscall.SIGCONT)
	stopped := make(chan result, 1)
	began := time.Now()
	go func() { stopped <- n.run("stop", "a/f") }()
	n.awaitEvents("Stopping")
	for time.Since(began) < time.Second {
		if told() {
			t.Fatalf("it was told to stop after %v", time.Since(began))
		}
	}
	if r := <-stopped; r.code != 0 {
		t.Errorf("stopping: %+v", r)
	}
	n.eventually("its end", func() bool { return !alive(w.pid()) })
}
