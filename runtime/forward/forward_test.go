package forward

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/purserd/purser/e2e/rig"
)

var background = context.Background()

// dialed connects, and reads the name of the instance that answers.
func dialed(t *testing.T, network string, port uint16) (net.Conn, string) {
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
		conn, who := dialed(t, network, port)
		if who != "a" {
			t.Fatalf("%s: %s answers", network, who)
		}
		echo(t, conn, "hello")
	}
	b := newInstance(t, "b", "127.0.0.2", a.port, naming("b"))
	old, _ := dialed(t, "tcp", port)
	n.point("dev/web", b.target())
	if _, who := dialed(t, "tcp", port); who != "b" {
		t.Errorf("%s answers after the change", who)
	}
	echo(t, old, "still there")
	n.point("dev/web", a.target(), b.target())
	var who []string
	for range 4 {
		_, w := dialed(t, "tcp", port)
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
func await(t testing.TB, what string, is func() bool) {
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
	conn, _ := dialed(t, "tcp", port)
	pid := n.pid()
	n.Close()
	if _, who := dialed(t, "tcp", port); who != "a" {
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
		conn, _ := dialed(t, "tcp", port)
		if err := syscall.Kill(n.pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, who := dialed(t, "tcp", port); who != "a" {
			t.Errorf("%s answers", who)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("an established connection has outlived the forwarder")
		}
		await(t, "told of", func() bool { return n.restarts.Load() == restarts+1 })
	}
}

func TestEndsAreWhatTheyAre(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	given := make(chan *net.TCPConn)
	a := newInstance(t, "a", "127.0.0.1", 0, func(conn *net.TCPConn) {
		given <- conn
		<-given
	})
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	for name, test := range map[string]func(t *testing.T, client, server *net.TCPConn){
		"the client finishes first": func(t *testing.T, client, server *net.TCPConn) {
			finish(t, client, server)
			echoHalf(t, server, client)
			finish(t, server, client)
		},
		"the server finishes first": func(t *testing.T, client, server *net.TCPConn) {
			finish(t, server, client)
			echoHalf(t, client, server)
			finish(t, client, server)
		},
		"the client resets": func(t *testing.T, client, server *net.TCPConn) {
			resets(client)
			isReset(t, server)
		},
		"the server resets": func(t *testing.T, client, server *net.TCPConn) {
			resets(server)
			isReset(t, client)
		},
		"the client resets after it finished": func(t *testing.T, client, server *net.TCPConn) {
			finish(t, client, server)
			resets(client)
			isReset(t, server)
		},
		"the server resets after it finished": func(t *testing.T, client, server *net.TCPConn) {
			finish(t, server, client)
			resets(server)
			isReset(t, client)
		},
		"the server closes before it has read all": func(t *testing.T, client, server *net.TCPConn) {
			if _, err := client.Write([]byte("unread")); err != nil {
				t.Fatal(err)
			}
			await(t, "arrived", func() bool { return n.Counters().BytesIn >= 6 })
			server.Close()
			isReset(t, client)
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			server := <-given
			defer func() { given <- nil }()
			for _, c := range []net.Conn{conn, server} {
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			}
			echoHalf(t, conn, server)
			echoHalf(t, server, conn)
			test(t, conn.(*net.TCPConn), server)
		})
	}
	await(t, "over", func() bool { return n.Counters().Active == 0 })
}

// echoHalf has something get from one end to the other.
func echoHalf(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("text")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
}

// finish ends one half, as the other end sees.
func finish(t *testing.T, from, to *net.TCPConn) {
	t.Helper()
	if err := from.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := to.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

// isReset waits for a reset, which the end of a half is not.
func isReset(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	await(t, "reset", func() bool { return isDead(t, conn) })
	if _, err := conn.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v", err)
	}
}

func TestMuchArrivesAsItWasSentBothWaysAtOnce(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, func(conn *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{conn}, conn) })
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	const size = 16 << 20
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			sent, got := sha256.New(), sha256.New()
			all.Go(func() {
				source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{byte(i)}), size), sent)
				if _, err := io.Copy(conn, source); err != nil {
					t.Error(err)
				}
				_ = conn.(*net.TCPConn).CloseWrite()
			})
			if count, err := io.Copy(got, conn); err != nil || count != size || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
				t.Errorf("%d of %d bytes came back, maybe others: %v", count, size, err)
			}
		})
	}
	all.Wait()
	if c := n.Counters(); c.BytesIn != 3*size || c.BytesOut != 3*size {
		t.Errorf("%d bytes in, %d out", c.BytesIn, c.BytesOut)
	}
}

func TestTheServerLearnsOfTheClientWhereThatIsAskedFor(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	headers := make(chan *proxyproto.Header, 1)
	a := newInstance(t, "a", "127.0.0.1", 0, func(conn *net.TCPConn) {
		r := bufio.NewReader(conn)
		h, err := proxyproto.Read(r)
		if err != nil {
			t.Error(err)
		}
		headers <- h
		_, _ = io.Copy(conn, r)
	})
	for version, number := range map[string]byte{ProxyV1: 1, ProxyV2: 2} {
		p := tcpPort(port, a.port)
		p.ProxyProtocol = version
		n.claim("dev/web", p)
		n.point("dev/web", a.target())
		for _, host := range []string{"127.0.0.1", "::1"} {
			conn, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			h := <-headers
			if h == nil || h.Version != number || h.SourceAddr.String() != conn.LocalAddr().String() || h.DestinationAddr.String() != conn.RemoteAddr().String() {
				t.Errorf("%s %s: %+v", version, host, h)
			}
			echo(t, conn, "after it")
		}
	}
}

func TestPortsOfAnInstanceCountForIt(t *testing.T) {
	n := newNode(t)
	port, added := freePort(t), freePort(t)
	old := newInstance(t, "old", "127.0.0.1", 0, naming("old"))
	fresh := newInstance(t, "new", "127.0.0.1", 0, naming("new"))
	n.claim("dev/web", tcpPort(port, old.port))
	target := old.target()
	target.Ports = []Port{tcpPort(port, old.port)}
	n.point("dev/web", target)
	// The new spec's, before its instance is there.
	n.claim("dev/web", tcpPort(port, fresh.port), tcpPort(added, fresh.port))
	if _, who := dialed(t, "tcp", port); who != "old" {
		t.Errorf("%s answers", who)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", added))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	await(t, "held", func() bool { return n.Counters().Held == 1 })
	n.point("dev/web", fresh.target())
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "new\n" {
		t.Errorf("%q, %v", line, err)
	}
	if _, who := dialed(t, "tcp", port); who != "new" {
		t.Errorf("%s answers", who)
	}
}

func TestAClaimOfOtherAddressesOfAPort(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, naming("a"))
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	one := tcpPort(port, a.port)
	one.HostIP = netip.MustParseAddr("127.0.0.1")
	n.claim("dev/web", one)
	if _, who := dialed(t, "tcp4", port); who != "a" {
		t.Errorf("%s answers", who)
	}
	if conn, err := net.Dial("tcp6", fmt.Sprintf("[::1]:%d", port)); err == nil {
		conn.Close()
		t.Error("an address that is not claimed any more is served")
	}
	if err := n.Release(t.Context(), "dev/web"); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		conn.Close()
		t.Error("a port that was released is served")
	}
}

// resets closes a connection with a reset.
func resets(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

func isDead(t *testing.T, conn *net.TCPConn) bool {
	fd, err := numberOf(conn)
	if err != nil {
		t.Fatal(err)
	}
	return closedState(fd)
}
