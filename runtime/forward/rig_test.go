package forward

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/companion"
	"github.com/purserd/purser/runtime/peer"
)

// TestMain is other processes, too: the forwarder.
func TestMain(m *testing.M) {
	Main()
	// The race detector has every process sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// node is an agent's side of a forwarder.
type node struct {
	*Client
	t        *testing.T
	dir      string
	command  string
	restarts atomic.Int32
}

func newNode(t *testing.T) *node {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: filepath.Join(t.TempDir(), "ports"), command: self}
	n.open()
	t.Cleanup(func() {
		n.end()
	})
	return n
}

// end releases everything, and waits for the forwarders' end.
func (n *node) end() {
	for _, name := range n.mirror.names() {
		if err := n.Release(background, name); err != nil {
			n.t.Error(err)
		}
	}
	if !rig.ComesTrue(10*time.Second, func() bool { c := n.Counters(); return c.Active+c.Held+c.Sessions == 0 }) {
		n.t.Errorf("the forwarder still has something: %+v", n.Counters())
	}
	n.Close()
	lock, err := companion.Lock(n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	lock.Close()
}

// open is the start of an agent.
func (n *node) open() {
	n.t.Helper()
	c, err := Open(n.t.Context(), n.options())
	if err != nil {
		n.t.Fatal(err)
	}
	n.Client = c
}

func (n *node) options() companion.Options {
	return companion.Options{
		Dir: n.dir, Command: []string{n.command, "port-forwarder"}, Heartbeat: heartbeat,
		Log:       slog.New(slog.NewTextHandler(n.t.Output(), nil)),
		Restarted: func() { n.restarts.Add(1) },
	}
}

// heartbeat is longer than it takes on a busy machine.
const heartbeat = 2 * time.Second

// pid is the forwarder's.
func (n *node) pid() int {
	n.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(n.dir, socketFile))
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	who, err := peer.Credentials(conn.(*net.UnixConn))
	if err != nil {
		n.t.Fatal(err)
	}
	return int(who.Pid)
}

func (n *node) claim(owner string, ports ...Port) {
	n.t.Helper()
	if err := n.Claim(n.t.Context(), owner, ports); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) point(owner string, targets ...Target) {
	n.t.Helper()
	if err := n.Point(n.t.Context(), owner, targets); err != nil {
		n.t.Fatal(err)
	}
}

var lastPort atomic.Uint32

// freePort is one that nobody has at any address, and that no connection is given.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 1000 {
		port := 20000 + (uint32(os.Getpid())+lastPort.Add(1))%10000
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		l.Close()
		if err == nil {
			u.Close()
			return uint16(port)
		}
	}
	t.Fatal("no port is free")
	return 0
}

func tcpPort(host, container uint16) Port {
	return Port{Protocol: TCP, Host: host, Container: container}
}
func udpPort(host, container uint16) Port {
	return Port{Protocol: UDP, Host: host, Container: container}
}

// instance is a container, with an address of its own on the loopback interface.
type instance struct {
	t        *testing.T
	name     string
	addr     netip.Addr
	port     uint16
	listener *net.TCPListener
	conns    sync.Map
	serving  sync.WaitGroup
	accepted atomic.Int64
	stopUDP  func()
}

// newInstance listens, and has each connection served.
func newInstance(t *testing.T, name, addr string, port uint16, serve func(*net.TCPConn)) *instance {
	t.Helper()
	in := &instance{t: t, name: name, addr: netip.MustParseAddr(addr), port: port}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(in.addr, port)))
	if err != nil {
		t.Fatal(err)
	}
	in.listener, in.port = l, uint16(l.Addr().(*net.TCPAddr).Port)
	in.serving.Go(func() {
		for {
			conn, err := l.AcceptTCP()
			if err != nil {
				return
			}
			in.accepted.Add(1)
			in.conns.Store(conn, nil)
			in.serving.Go(func() {
				defer in.conns.Delete(conn)
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(in.crash)
	return in
}

// stop takes nothing new.
func (in *instance) stop() {
	if in.stopUDP != nil {
		in.stopUDP()
		return
	}
	in.listener.Close()
}

// retire ends it when its last connection has ended.
func (in *instance) retire() {
	in.stop()
	in.serving.Wait()
}

// crash ends all of it, as the death of a process does.
func (in *instance) crash() {
	in.stop()
	in.conns.Range(func(conn, _ any) bool { conn.(*net.TCPConn).Close(); return true })
	in.serving.Wait()
}

func (in *instance) target() Target { return Target{Instance: in.name, Addrs: []netip.Addr{in.addr}} }

// naming greets with the instance's name and gives back what it gets.
func naming(name string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		if _, err := io.WriteString(conn, name+"\n"); err == nil {
			_, _ = io.Copy(conn, conn)
		}
	}
}
