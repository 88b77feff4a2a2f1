// Command forward measures what the port forwarder costs: connections to a server in
// another network namespace, through the forwarder and directly, over the same veth pair.
//
// Both are measured in rounds, in another order in each, so that the machine's moods
// hit both alike: the throughput of one connection, the time of a byte to the server and
// back on a connection that is there, and the same with a connection made for it. It
// prints medians, or of throughput the best, with the goals they are held against, and the
// CPU time that a GB takes of client, server and forwarder: where these three share the
// processors, throughput is what that leaves. Run it as root on a quiet machine, or with
// chrt -f 1 before it, so that what else runs does not come between; the kernel then halts
// it for 50 ms of each second, unless there is an idle one.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/purserd/purser/runtime/companion"
	"github.com/purserd/purser/runtime/forward"
)

func main() {
	forward.Main()
	rounds := flag.Int("rounds", 10, "rounds of measurements")
	serve := flag.String("serve", "", "be the server, at this `ADDRESS`")
	flag.Parse()
	err := error(nil)
	if *serve != "" {
		err = server(*serve)
	} else {
		err = run(*rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		os.Exit(1)
	}
}

// Where the server is, and what the forwarder has of the node.
const (
	namespace    = "purser-bench"
	hostAddr     = "10.255.77.1"
	serverAddr   = "10.255.77.2"
	serverPort   = 7777
	publishPort  = 17777
	measureBytes = 1 << 30
)

func run(rounds int) error {
	server, stop, err := network()
	if err != nil {
		return err
	}
	defer stop()
	client, forwarder, err := publish()
	if err != nil {
		return err
	}
	defer client.Close()
	defer client.Release(context.Background(), "bench/server")
	all := processes{os.Getpid(), server, forwarder}
	ways := []*way{
		{name: "direct", all: all, addr: fmt.Sprintf("%s:%d", serverAddr, serverPort)},
		{name: "forwarded", all: all, addr: fmt.Sprintf("%s:%d", hostAddr, publishPort)},
	}
	for range rounds {
		for _, i := range rand.Perm(len(ways)) {
			if err := ways[i].measure(); err != nil {
				return fmt.Errorf("%s: %w", ways[i].name, err)
			}
		}
	}
	report(ways[0], ways[1])
	return nil
}

// network makes the namespace with a server in it.
func network() (server int, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, nil, err
	}
	var cmd *exec.Cmd
	stop = func() {
		if cmd != nil && cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		_ = exec.Command("ip", "link", "delete", "purserbench0").Run()
		_ = exec.Command("ip", "netns", "delete", namespace).Run()
	}
	for _, args := range [][]string{
		{"netns", "add", namespace},
		{"link", "add", "purserbench0", "type", "veth", "peer", "name", "eth0", "netns", namespace},
		{"address", "add", hostAddr + "/24", "dev", "purserbench0"},
		{"link", "set", "purserbench0", "up"},
		{"-n", namespace, "address", "add", serverAddr + "/24", "dev", "eth0"},
		{"-n", namespace, "link", "set", "eth0", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			stop()
			return 0, nil, fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	cmd = exec.Command("ip", "netns", "exec", namespace, self, "-serve", fmt.Sprintf("%s:%d", serverAddr, serverPort))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		stop()
		return 0, nil, err
	}
	return cmd.Process.Pid, stop, nil
}

// publish has a port lead to the server.
func publish() (client *forward.Client, pid int, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	dir, err := os.MkdirTemp("/tmp", "purser-bench-")
	if err != nil {
		return nil, 0, err
	}
	ctx := context.Background()
	client, err = forward.Open(ctx, companion.Options{Dir: dir, Command: []string{self, "port-forwarder"}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return nil, 0, err
	}
	if err := client.Claim(ctx, "bench/server", []forward.Port{{Protocol: forward.TCP, Host: publishPort, Container: serverPort}}); err != nil {
		return nil, 0, err
	}
	if pid, err = forwarderIn(dir); err != nil {
		return nil, 0, err
	}
	return client, pid, client.Point(ctx, "bench/server", []forward.Target{{Instance: "server", Addrs: []netip.Addr{netip.MustParseAddr(serverAddr)}}})
}

// What a connection asks the server for, by its first byte.
const (
	wantEcho   = 'e'
	wantBytes  = 'b'
	givesBytes = 'g'
)

func server(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			serveOne(conn)
		}()
	}
}

func serveOne(conn net.Conn) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		return
	}
	buf := make([]byte, 128<<10)
	switch first[0] {
	case wantBytes:
		for left := measureBytes; left > 0; left -= len(buf) {
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	case givesBytes:
		for left := measureBytes; left > 0; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			left -= n
		}
		_, _ = conn.Write(first)
	default:
		_, _ = conn.Write(first)
		for {
			if _, err := io.ReadFull(conn, first); err != nil {
				return
			}
			if _, err := conn.Write(first); err != nil {
				return
			}
		}
	}
}

// way is one to reach the server, and what it took.
type way struct {
	name, addr       string
	all              processes
	down, up         []float64 // bytes a second
	downCPU, upCPU   parts
	there, connected []time.Duration
}

func (w *way) measure() error {
	began := w.all.used()
	down, err := w.throughput(wantBytes)
	if err != nil {
		return err
	}
	half := w.all.used()
	up, err := w.throughput(givesBytes)
	if err != nil {
		return err
	}
	w.downCPU.add(half.since(began))
	w.upCPU.add(w.all.used().since(half))
	w.down, w.up = append(w.down, down), append(w.up, up)
	if err := w.pingPong(2000); err != nil {
		return err
	}
	return w.connections(500)
}

func (w *way) dial() (net.Conn, error) {
	for limit := time.Now().Add(5 * time.Second); ; {
		conn, err := net.Dial("tcp", w.addr)
		if err == nil || time.Now().After(limit) {
			return conn, err
		}
	}
}

func (w *way) throughput(what byte) (float64, error) {
	conn, err := w.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	began := time.Now()
	if _, err := conn.Write([]byte{what}); err != nil {
		return 0, err
	}
	buf := make([]byte, 128<<10)
	for left := measureBytes; left > 0 && what == givesBytes; left -= len(buf) {
		if _, err := conn.Write(buf); err != nil {
			return 0, err
		}
	}
	want := measureBytes
	if what == givesBytes {
		want = 1
	}
	for want > 0 {
		n, err := conn.Read(buf)
		if err != nil {
			return 0, err
		}
		want -= n
	}
	return measureBytes / time.Since(began).Seconds(), nil
}

// pingPong has a byte go there and back on one connection.
func (w *way) pingPong(times int) error {
	conn, err := w.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	b := []byte{wantEcho}
	for range times {
		began := time.Now()
		if err := exchange(conn, b); err != nil {
			return err
		}
		w.there = append(w.there, time.Since(began))
	}
	return nil
}

func exchange(conn net.Conn, b []byte) error {
	if _, err := conn.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, b)
	return err
}

// pause between two connections is longer than it takes to end one.
const pause = 500 * time.Microsecond

// connections has a byte go there and back on a connection of its own.
func (w *way) connections(times int) error {
	b := []byte{wantEcho}
	for range times {
		began := time.Now()
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			return err
		}
		if err := exchange(conn, b); err != nil {
			return err
		}
		w.connected = append(w.connected, time.Since(began))
		// A reset: no port is kept in TIME_WAIT.
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		time.Sleep(pause)
	}
	return nil
}

func report(direct, forwarded *way) {
	for _, t := range []struct {
		name       string
		ours, base []float64
		cpu, least parts
	}{
		{"throughput from the server", forwarded.down, direct.down, forwarded.downCPU, direct.downCPU},
		{"throughput to the server", forwarded.up, direct.up, forwarded.upCPU, direct.upCPU},
	} {
		ours, base := slices.Max(t.ours), slices.Max(t.base)
		fmt.Printf("%-40s direct %6.2f GB/s  forwarded %6.2f GB/s  ratio %.2f (medians %.2f), goal ≥ 0.80\n",
			t.name, base/1e9, ours/1e9, ours/base, median(t.ours)/median(t.base))
		fmt.Printf("    ms of CPU time a GB: direct %s; forwarded %s\n", t.least.of(len(t.base)), t.cpu.of(len(t.ours)))
	}
	for _, l := range []struct {
		name       string
		ours, base []time.Duration
	}{
		{"a byte there and back", forwarded.there, direct.there},
		{"connect, a byte there and back", forwarded.connected, direct.connected},
	} {
		ours, base := median(l.ours), median(l.base)
		fmt.Printf("%-40s direct %6v  forwarded %6v  added %v (of the best tenth %v), goal < 100µs\n",
			l.name, rounded(base), rounded(ours), rounded(ours-base), rounded(quantile(l.ours, 0.1)-quantile(l.base, 0.1)))
	}
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Nanosecond) }

func median[T float64 | time.Duration](all []T) T { return quantile(all, 0.5) }

func quantile[T float64 | time.Duration](all []T, of float64) T {
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return sorted[int(of*float64(len(sorted)))]
}
