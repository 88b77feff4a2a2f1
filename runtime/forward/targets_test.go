package forward

import (
	"bufio"
	"net/netip"
	"testing"
	"time"
)

func TestATargetIsRetiredWhenNothingIsBeingConnectedToIt(t *testing.T) {
	in := newTarget(Target{Instance: "a"})
	if !in.enter() {
		t.Fatal("a target cannot be connected to")
	}
	retired := make(chan struct{})
	go func() {
		defer close(retired)
		in.retire()
	}()
	<-in.ctx.Done() // what is being connected is told
	select {
	case <-retired:
		t.Error("is retired while something is being connected")
	default:
	}
	in.leave()
	<-retired
	if in.enter() {
		t.Error("can be connected to afterwards")
	}
}

// silent is an address at which connections are neither taken nor refused: the backlog
// is full.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	_, at := crowded(t)
	for range 4 {
		s, err := dial(at, 50*time.Millisecond, t.Context())
		if err != nil {
			return at
		}
		t.Cleanup(s.close)
	}
	t.Fatal("connections are taken all the same")
	return at
}

func TestWhatDoesNotAnswerDelaysNothingElse(t *testing.T) {
	port, at := freePort(t), silent(t)
	seen, _, o := limited(t, limits{pending: 10, hold: time.Hour}, tcpPort(port, at.Port()))
	o.pointTo(Target{Instance: "silent", Addrs: []netip.Addr{at.Addr()}})
	conn := connectTo(t, port)
	await(t, "held", func() bool { return seen.read().Held == 1 })
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	target := a.target()
	target.Ports = []Port{tcpPort(port, a.port)}
	began := time.Now()
	o.pointTo(target)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "a\n" {
		t.Errorf("%q, %v", line, err)
	}
	if took := time.Since(began); took > connectTimeout*3/4 {
		t.Errorf("took %s", took)
	}
	conn.Close()
}

// Neither a hand-over nor a release waits for targets that do not answer.
func TestTargetsThatDoNotAnswer(t *testing.T) {
	n := newNode(t)
	at := silent(t)
	var ports []Port
	for range 8 {
		ports = append(ports, tcpPort(freePort(t), at.Port()))
	}
	n.claim("dev/web", ports...)
	n.point("dev/web", Target{Instance: "silent", Addrs: []netip.Addr{at.Addr()}})
	for _, p := range ports {
		connectTo(t, p.Host)
	}
	await(t, "held", func() bool { return n.Counters().Held == uint64(len(ports)) })
	old := n.pid()
	n.upgrade()
	if n.pid() == old {
		t.Error("there is no other forwarder")
	}
	await(t, "held", func() bool { return n.Counters().Held == uint64(len(ports)) })
	began := time.Now()
	if err := n.Release(t.Context(), "dev/web"); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > connectTimeout*3/4 {
		t.Errorf("it took %s", took)
	}
}
