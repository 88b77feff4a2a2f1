package forward

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// upgrade has the next agent be of another executable.
func (n *node) upgrade() {
	n.t.Helper()
	program, err := os.ReadFile(n.command)
	if err != nil {
		n.t.Fatal(err)
	}
	n.command = filepath.Join(n.t.TempDir(), filepath.Base(n.command))
	if err := os.WriteFile(n.command, program, 0o700); err != nil {
		n.t.Fatal(err)
	}
	n.Close()
	n.open()
}

func TestAnUpgradeLosesNothing(t *testing.T) {
	n := newNode(t)
	port, held, udp := freePort(t), freePort(t), freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	u := newUDPInstance(t, "u", "127.0.0.1", 0)
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	n.claim("dev/dns", udpPort(udp, u.port))
	n.point("dev/dns", u.target())
	n.claim("dev/held", tcpPort(held, a.port))

	established, _ := dialed(t, "tcp", port)
	waiting, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", held))
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	client := udpClient(t, "127.0.0.1", udp)
	asked(t, client, "x")
	await(t, "held", func() bool { return n.Counters().Held == 1 })

	old := n.pid()
	n.upgrade()
	if n.pid() == old {
		t.Fatal("the forwarder is the same")
	}
	echo(t, established, "with the old one")
	if _, who := dialed(t, "tcp", port); who != "a" {
		t.Errorf("%s answers", who)
	}
	if c := n.Counters(); c.Held != 1 || c.Sessions != 1 || c.Active != 2 {
		t.Errorf("%+v", c)
	}
	if got := asked(t, client, "y"); got != "u y" || n.Counters().Sessions != 1 {
		t.Errorf("%q with %d sessions", got, n.Counters().Sessions)
	}
	n.point("dev/held", a.target())
	if line, err := bufio.NewReader(waiting).ReadString('\n'); err != nil || line != "a\n" {
		t.Errorf("%q, %v", line, err)
	}
	established.Close()
	await(t, "over", func() bool { return ended(old) })
}

// ended tells whether a process has.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// load is clients that connect, ask, and go, over and over.
type load struct {
	t           *testing.T
	port        uint16
	stop        chan struct{}
	clients     sync.WaitGroup
	done        atomic.Int64
	mu          sync.Mutex
	established []error // failures after the first answer
	fresh       []error // failures to connect, or before the first answer
}

func newLoad(t *testing.T, port uint16, clients int) *load {
	l := &load{t: t, port: port, stop: make(chan struct{})}
	for range clients {
		l.clients.Go(l.run)
	}
	return l
}

func (l *load) run() {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		if established, err := l.request(); err != nil {
			l.failed(established, err)
		}
		l.done.Add(1)
	}
}

func (l *load) failed(established bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if established {
		l.established = append(l.established, err)
	} else {
		l.fresh = append(l.fresh, err)
	}
}

// request has three answers by one connection.
func (l *load) request() (established bool, err error) {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", l.port), 5*time.Second)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil {
		return false, err
	}
	for range 3 {
		if _, err := conn.Write([]byte("request\n")); err != nil {
			return true, err
		}
		if _, err := r.ReadString('\n'); err != nil {
			return true, err
		}
	}
	return true, nil
}

// more waits until so many more requests have been done.
func (l *load) more(n int64) {
	l.t.Helper()
	now := l.done.Load()
	await(l.t, fmt.Sprintf("done %d more times", n), func() bool { return l.done.Load() >= now+n })
}

// end ends it and tells what failed.
func (l *load) end() (established, fresh []error) {
	close(l.stop)
	l.clients.Wait()
	return l.established, l.fresh
}

func TestUpgradesUnderLoadLoseNothing(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	l := newLoad(t, port, 8)
	for range 5 {
		l.more(100)
		n.upgrade()
	}
	l.more(100)
	if established, fresh := l.end(); len(established)+len(fresh) > 0 {
		t.Errorf("of %d: established: %v, new: %v", l.done.Load(), established, fresh)
	}
}

func TestKillsUnderLoadLoseWhatIsEstablishedAlone(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	const clients, kills = 8, 5
	l := newLoad(t, port, clients)
	for i := range int32(kills) {
		l.more(100)
		if err := syscall.Kill(n.pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "started again", func() bool { return n.restarts.Load() > i })
	}
	l.more(100)
	established, fresh := l.end()
	// A client has one connection: at each kill as many can be lost, whether they have
	// been answered or just been accepted.
	if lost := len(established) + len(fresh); lost > clients*kills {
		t.Errorf("%d of %d were lost: %v, %v", lost, l.done.Load(), established, fresh)
	}
	for _, err := range fresh {
		if strings.Contains(err.Error(), "refused") {
			t.Error(err)
		}
	}
}

func TestTargetsThatMoveUnderLoadLoseNothing(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	const addrs = 2
	var containerPort uint16
	start := func(i int) *instance {
		name := fmt.Sprint("i", i)
		in := newInstance(t, name, fmt.Sprintf("127.0.0.%d", 1+i%addrs), containerPort, naming(name))
		containerPort = in.port
		return in
	}
	in := start(0)
	n.claim("dev/web", tcpPort(port, containerPort))
	n.point("dev/web", in.target())
	l := newLoad(t, port, 8)
	for i := range 10 {
		l.more(50)
		next := start(i + 1)
		n.point("dev/web", next.target())
		accepted := in.accepted.Load()
		l.more(20)
		// What was connected before is in the backlog at most.
		if late := in.accepted.Load() - accepted; late > 8 {
			t.Errorf("%d connections went to what was no target any more", late)
		}
		in.retire()
		in = next
	}
	if established, fresh := l.end(); len(established)+len(fresh) > 0 {
		t.Errorf("of %d: established: %v, new: %v", l.done.Load(), established, fresh)
	}
}

func TestNewConnectionsOutwaitACrash(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	a.crash()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	await(t, "held", func() bool { return n.Counters().Held == 1 })
	b := newInstance(t, "b", "127.0.0.2", a.port, naming("b"))
	n.point("dev/web", b.target())
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || line != "b\n" {
		t.Errorf("%q, %v", line, err)
	}
	b.crash()
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the end of an established connection's instance: %v", err)
	}
}
