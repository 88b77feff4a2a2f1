package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

var background = context.Background()

// dial connects, and reads the name of the instance that answers.
func dial(t *testing.T, network string, port uint16) (net.Conn, string) {
	t.Helper()
	host := "127.0.0.1"
	if network == "tcp6" {
		host = "::1"
	}
	conn, err := net.DialTimeout(network, net.JoinHostPort(host, fmt.Sprint(port)), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	if err != nil {
		t.Fatalf("reading who answers: %v", err)
	}
	return conn, strings.TrimSpace(line)
}

func TestConnectionsGoToTheTargetOverBothFamilies(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	for _, network := range []string{"tcp4", "tcp6"} {
		conn, who := dial(t, network, port)
		if who != "a" {
			t.Fatalf("%s: %s answers", network, who)
		}
		echo(t, conn, "hello")
	}
	b := newInstance(t, "b", "127.0.0.2", a.port, naming("b"))
	old, _ := dial(t, "tcp", port)
	n.point("dev/web", b.target())
	if _, who := dial(t, "tcp", port); who != "b" {
		t.Errorf("%s answers after the change", who)
	}
	echo(t, old, "still there")
	n.point("dev/web", a.target(), b.target())
	var who []string
	for range 4 {
		_, w := dial(t, "tcp", port)
		who = append(who, w)
	}
	slices.Sort(who)
	if got := strings.Join(who, ""); got != "aabb" {
		t.Errorf("of two targets these answered: %s", got)
	}
}

func echo(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != text {
		t.Fatalf("%q came back as %q: %v", text, back, err)
	}
}

func TestConnectionsAreHeldUntilThereIsATarget(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	await(t, "held", func() bool { return n.Counters().Held == 1 })
	n.point("dev/web", a.target())
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "a\n" {
		t.Errorf("%q, %v", line, err)
	}
	if c := n.Counters(); c.Held != 0 || c.Active != 1 || c.Connections[Forwarded] != 1 {
		t.Errorf("%+v", c)
	}
}

// await waits for something that is about to happen.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	if !rig.ComesTrue(10*time.Second, is) {
		t.Fatalf("is not %s after 10 s", what)
	}
}

func TestTakenPortsNameTheirHolder(t *testing.T) {
	n := newNode(t)
	held, taken, free := freePort(t), freePort(t), freePort(t)
	n.claim("dev/web", tcpPort(held, 1), udpPort(held, 1))
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", taken))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp6", fmt.Sprintf("[::1]:%d", taken))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, want := range []struct {
		port Port
		text string
	}{
		{tcpPort(held, 1), fmt.Sprintf("port %d/tcp of all addresses is taken by workload dev/web", held)},
		{udpPort(held, 1), fmt.Sprintf("port %d/udp of all addresses is taken by workload dev/web", held)},
		{tcpPort(taken, 1), fmt.Sprintf("port %d/tcp of all addresses is taken by process %d (forward.test)", taken, os.Getpid())},
		{udpPort(taken, 1), fmt.Sprintf("port %d/udp of all addresses is taken by process %d (forward.test)", taken, os.Getpid())},
	} {
		err := n.Claim(t.Context(), "dev/other", []Port{tcpPort(free, 1), want.port})
		var e *TakenError
		if !errors.As(err, &e) || err.Error() != want.text {
			t.Errorf("got %v, want %s", err, want.text)
		}
	}
	if owners, err := n.List(t.Context()); err != nil || len(owners) != 1 {
		t.Errorf("%+v, %v", owners, err)
	}
	// Nothing is left of the claims that were refused.
	l2, err := net.Listen("tcp", fmt.Sprintf(":%d", free))
	if err != nil {
		t.Fatal(err)
	}
	l2.Close()
}

func TestTheNextAgentFindsAllAsItWas(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	conn, _ := dial(t, "tcp", port)
	pid := n.pid()
	n.Close()
	if _, who := dial(t, "tcp", port); who != "a" {
		t.Errorf("%s answers without an agent", who)
	}
	n.open()
	echo(t, conn, "still there")
	if now := n.pid(); now != pid {
		t.Errorf("process %d has followed %d", now, pid)
	}
	owners, err := n.List(t.Context())
	want := []Owner{{"dev/web", []Port{tcpPort(port, a.port)}, []Target{a.target()}}}
	if err != nil || !reflect.DeepEqual(owners, want) {
		t.Errorf("%+v, %v", owners, err)
	}
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	echo(t, conn, "and again")
}

func TestOfAForwarderThatIsKilledTheConnectionsAreLostAlone(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	for restarts := range int32(3) {
		conn, _ := dial(t, "tcp", port)
		if err := syscall.Kill(n.pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, who := dial(t, "tcp", port); who != "a" {
			t.Errorf("%s answers", who)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("an established connection has outlived the forwarder")
		}
		await(t, "told of", func() bool { return n.restarts.Load() == restarts+1 })
	}
}
