package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// answer is what became of a request.
type answer struct {
	text string
	err  error
	at   time.Time
}

func (a answer) String() string { return fmt.Sprintf("%q, %v", a.text, a.err) }

// asking asks for a page of the service's, and tells of the answer later.
func (n *node) asking(path string) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		text, err := n.ask(port, path)
		done <- answer{text, err, time.Now()}
	}()
	return done
}

// awaitConnections waits until that many are in a state.
func (n *node) awaitConnections(state, many string) {
	n.t.Helper()
	n.eventually(many+" to be "+state, func() bool { return n.metric(`purser_port_connections{state="`+state+`"}`) == many })
}

// wantOpen checks that requests are under way.
func wantOpen(t *testing.T, requests ...<-chan answer) {
	t.Helper()
	for _, r := range requests {
		select {
		case a := <-r:
			t.Fatalf("it is over: %v", a)
		default:
		}
	}
}

// A request is held until an instance serves.
func TestRequestsAreHeld(t *testing.T) {
	t.Parallel()
	n := bridgedNode(t, rig.V24)
	gated := func(version string) string {
		spec := strings.Replace(published(port, version, "rotation: {strategy: restart}"), "tcp: {port: 8080}", "exec: {command: [cat, /tmp/go]}", 1)
		if spec == published(port, version, "rotation: {strategy: restart}") {
			t.Fatal("its ready probe is another one")
		}
		return spec
	}
	held := func(version string, begin func()) {
		t.Helper()
		begin()
		request := n.asking("/")
		w := n.await("a/f", "running", func(w workload) bool { return w.State == "running" && len(w.Instances) == 1 })
		n.awaitConnections("held", "1")
		wantOpen(t, request)
		letGo(t, w)
		if a := <-request; a.err != nil || a.text != w.Instances[0].ID+" "+version {
			t.Errorf("got %v", a)
		}
		n.awaitConnections("held", "0")
		n.await("a/f", "ready", inState("ready"))
	}
	held("0", func() { n.deploy(gated("0")) })
	held("1", func() {
		before := n.get("a/f")
		n.deploy(gated("1"))
		n.await("a/f", "replaced", func(w workload) bool { return w.State == "running" && len(w.Instances) == 1 && w.pid() != before.pid() })
	})
	held("1", func() {
		before := n.get("a/f").Restarts
		_, _ = n.ask(port, "/crash")
		n.await("a/f", "crashed", func(w workload) bool { return w.Restarts > before })
	})
}

// What is under way on an instance that is replaced goes on, while others are answered by
// the next one, and is cut when the grace is over.
func TestRequestsFinishWithinTheGrace(t *testing.T) {
	bridged(t, func(t *testing.T, n *node) {
		const grace = 3 * time.Second
		n.deploy(published(port, "0", "stop: {grace: 3s}"), "--wait")
		old := n.get("a/f").Instances[0]
		finished, cut := n.asking("/hold"), n.asking("/forever")
		n.awaitConnections("active", "2")
		began := time.Now()
		n.deploy(published(port, "1", "stop: {grace: 3s}"), "--wait")
		if got, err := n.ask(port, "/"); err != nil || !strings.HasSuffix(got, " 1") {
			t.Errorf("what comes later is answered %q, %v", got, err)
		}
		n.awaitEvents("Promoted")
		wantOpen(t, finished, cut)
		if out, err := n.onNetwork("curl", "-sSf", "-m", "10", "http://"+old.Addresses[0]+":8080/go").CombinedOutput(); err != nil {
			t.Errorf("asking the earlier instance: %v: %s", err, out)
		}
		if a := <-finished; a.err != nil || a.text != old.ID+" 0" {
			t.Errorf("the request that ended in time: %v", a)
		}
		a := <-cut
		if took := a.at.Sub(began); a.err == nil || took < grace || took > grace+10*time.Second {
			t.Errorf("the request that did not end was cut after %v: %v", took, a)
		}
		n.await("a/f", "one instance", func(w workload) bool { return w.State == "ready" && len(w.Instances) == 1 })
		if alive(old.PID) {
			t.Error("the earlier instance runs on")
		}
	})
}
