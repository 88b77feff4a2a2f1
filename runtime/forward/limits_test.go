package forward

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limited is a forwarder in this process that has other bounds, and an owner of a port.
func limited(t *testing.T, l limits, p Port) (*counters, *forwarder, *owner) {
	t.Helper()
	f := inProcess(t, func(f *forwarder) { f.limits = l })
	t.Cleanup(func() { f.close(t) })
	f.mu.Lock()
	defer f.mu.Unlock()
	o, err := f.claim("dev/web", []Port{p})
	if err != nil {
		t.Fatal(err)
	}
	// As the agent sees it: a process does not see its own locks.
	seen, err := openCounters(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { seen.Close() })
	return seen, f, o
}

func (o *owner) pointTo(targets ...Target) {
	o.f.mu.Lock()
	defer o.f.mu.Unlock()
	o.point(targets)
}

func connectTo(t *testing.T, port uint16) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func TestAConnectionIsHeldForATime(t *testing.T) {
	port := freePort(t)
	seen, _, _ := limited(t, limits{pending: 10, hold: 50 * time.Millisecond}, tcpPort(port, 1))
	before := seen.read()
	conn := connectTo(t, port)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
	if c := seen.read(); c.Connections[HeldTimeout] != before.Connections[HeldTimeout]+1 || c.Held != 0 {
		t.Errorf("%+v", c)
	}
}

func TestAClientThatGoesIsNotHeldAnyMore(t *testing.T) {
	port := freePort(t)
	seen, _, _ := limited(t, limits{pending: 10, hold: time.Hour}, tcpPort(port, 1))
	conn := connectTo(t, port)
	await(t, "held", func() bool { return seen.read().Held == 1 })
	resets(conn)
	await(t, "abandoned", func() bool { c := seen.read(); return c.Connections[Abandoned] == 1 && c.Held == 0 })
}

func TestWhatIsHeldEndsWithThePort(t *testing.T) {
	port := freePort(t)
	seen, f, _ := limited(t, limits{pending: 10, hold: time.Hour}, tcpPort(port, 1))
	conn := connectTo(t, port)
	await(t, "held", func() bool { return seen.read().Held == 1 })
	f.mu.Lock()
	f.release("dev/web")
	f.mu.Unlock()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
	if c := seen.read(); c.Connections[Released] != 1 {
		t.Errorf("%+v", c)
	}
}

func TestMoreThanCanBeHeldWaitInTheBacklog(t *testing.T) {
	port := freePort(t)
	seen, _, o := limited(t, limits{pending: 2, hold: time.Hour}, tcpPort(port, 1))
	var conns []net.Conn
	for range 10 {
		conns = append(conns, connectTo(t, port))
	}
	await(t, "held", func() bool { return seen.read().Held == 2 })
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	target := a.target()
	target.Ports = []Port{tcpPort(port, a.port)}
	o.pointTo(target)
	for _, conn := range conns {
		if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
			t.Error(err)
		}
	}
	if c := seen.read(); c.Connections[Forwarded] != 10 || c.Active != 10 {
		t.Errorf("%+v", c)
	}
	closeConns(conns)
}

func closeConns(conns []net.Conn) {
	for _, conn := range conns {
		conn.Close()
	}
}

func TestUDPClientsAreForgotten(t *testing.T) {
	port := freePort(t)
	seen, _, o := limited(t, limits{sessions: 2, idle: time.Hour}, udpPort(port, 1))
	a := newUDPInstance(t, "a", "127.0.0.1", 0)
	target := a.target()
	target.Ports = []Port{udpPort(port, a.port)}
	o.pointTo(target)
	for range 5 {
		asked(t, udpClient(t, "127.0.0.1", port), "x")
	}
	await(t, "bounded", func() bool { return seen.read().Sessions == 2 })

	other := freePort(t)
	seen2, _, o2 := limited(t, limits{sessions: 10, idle: 50 * time.Millisecond}, udpPort(other, 1))
	target.Ports = []Port{udpPort(other, a.port)}
	o2.pointTo(target)
	client := udpClient(t, "127.0.0.1", other)
	asked(t, client, "x")
	await(t, "forgotten", func() bool { return seen2.read().Sessions == 0 })
	if got := asked(t, client, "again"); got != "a again" {
		t.Errorf("%q", got)
	}
}

// A test has both ends of each connection, and cannot have many more.
func TestManyConnectionsAtOnce(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	many := int(min(4000, limit.Cur/2-1000))
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	conns := make([]net.Conn, many)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	var all sync.WaitGroup
	for first := range 8 {
		all.Go(func() {
			for i := first; i < many; i += 8 {
				// From several addresses, which have ports of their own.
				from := &net.TCPAddr{IP: netip.AddrFrom4([4]byte{127, 0, 1, byte(first)}).AsSlice()}
				conn, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = conn
				if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if c := n.Counters(); c.Active != uint64(many) {
		t.Errorf("%d of %d connections are active", c.Active, many)
	}
	if t.Failed() {
		return
	}
	for _, conn := range conns {
		echo(t, conn, "hello")
	}
	descriptors, memory := usage(t, n.pid())
	t.Logf("%d connections: %d descriptors, %d KiB", many, descriptors, memory)
	if descriptors > 2*many+200 {
		t.Errorf("%d descriptors for %d connections", descriptors, many)
	}
	closeConns(conns)
	await(t, "over", func() bool { return n.Counters().Active == 0 })
	if descriptors, _ := usage(t, n.pid()); descriptors > 200 {
		t.Errorf("%d descriptors for none", descriptors)
	}
}

// A client that does not read keeps what it is sent from being sent, and nobody else.
func TestASlowClientWaitsAlone(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	slow := connectTo(t, port)
	_ = slow.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	block := make([]byte, 1<<20)
	sent := 0
	for {
		k, err := slow.Write(block)
		sent += k
		if errors.Is(err, errTimeout) {
			break
		}
		if err != nil || sent > 1<<30 {
			t.Fatalf("%d bytes are on the way: %v", sent, err)
		}
	}
	conn, _ := dialed(t, "tcp", port)
	echo(t, conn, "hello")
	_ = slow.SetDeadline(time.Now().Add(10 * time.Second))
	_ = slow.CloseWrite()
	if got, err := io.Copy(io.Discard, slow); err != nil || got != int64(sent)+2 {
		t.Errorf("%d of %d bytes came back: %v", got, sent, err)
	}
}

// What an agent had served while a forwarder began is not served twice.
func TestBeginningTwice(t *testing.T) {
	_, f, o := limited(t, limits{pending: 1, hold: time.Hour}, tcpPort(freePort(t), 1))
	before := o.sockets[0].taking
	f.agents.Close()
	if err := f.open(true); err != nil {
		t.Fatal(err)
	}
	if before == nil || o.sockets[0].taking != before {
		t.Error("a port is served twice")
	}
}
