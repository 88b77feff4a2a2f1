package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/netprobe"
)

// web serves HTTP in a container, on a port, once it has written "up".
func web(port uint32) *purserv1.LaunchSpec {
	return spec("sh", "-c", fmt.Sprintf("mkdir /www; echo fine > /www/ok; echo up; exec httpd -f -p %d -h /www", port))
}

func TestNetwork(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		testNetwork(t, n, "")
		t.Run("host", func(t *testing.T) { testNetworkOfTheHost(t, n) })
		t.Run("of nobody", func(t *testing.T) {
			if _, err := n.Network(t.Context(), "nobody"); !errors.Is(err, runtime.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		})
	})
}

// The same with crun, and what gVisor has instead.
func TestNetworkOfOtherRuntimes(t *testing.T) {
	n := newNodeWith(t, rig.V24, "crun", "runsc")
	t.Run("crun", func(t *testing.T) { testNetwork(t, n, "crun") })
	t.Run("runsc", func(t *testing.T) { testNoNetwork(t, n) })
}

// testNetwork probes a container that has loopback alone, before it listens, while
// it does, and when it has ended.
func testNetwork(t *testing.T, n *node, oci string) {
	s := web(8080)
	s.Runtime = &oci
	if oci == "" {
		s.Runtime = nil
	}
	n.start("n", s)
	network := n.network(t, "n")
	defer network.Close()
	tcp, http := &purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: new(uint32(8080))}}, get(8080, "/ok")
	// It listens a moment after it has started.
	if !rig.ComesTrue(10*time.Second, func() bool { return network.Try(t.Context(), tcp, io.Discard) == nil }) {
		t.Fatal("nobody listens")
	}
	if err := network.Try(t.Context(), http, io.Discard); err != nil {
		t.Error(err)
	}
	var said strings.Builder
	if err := network.Try(t.Context(), get(8080, "/absent"), &said); err == nil || err.Error() != "HTTP status 404 Not Found" || !strings.Contains(said.String(), "404") {
		t.Errorf("%v, %q", err, said.String())
	}
	if err := n.Kill(t.Context(), "n", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.wait("n")
	if err := network.Try(t.Context(), tcp, io.Discard); err == nil || !strings.HasSuffix(err.Error(), "connection refused") {
		t.Errorf("of a container that has ended: %v", err)
	}
	if _, err := n.Network(t.Context(), "n"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("of a container that has ended: %v", err)
	}
	n.delete("n")
}

func get(port uint32, path string) *purserv1.Probe {
	return &purserv1.Probe{Http: &purserv1.HttpProbe{Port: &port, Path: &path}}
}

func (n *node) network(t *testing.T, id string) *netprobe.Network {
	t.Helper()
	network, err := n.Network(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return network
}

// testNetworkOfTheHost probes a server of the node's from a container that is in its network.
func testNetworkOfTheHost(t *testing.T, n *node) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := spec("sleep", "1000")
	s.Network = &purserv1.Network{Mode: new("host")}
	n.start("h", s)
	defer n.delete("h")
	network := n.network(t, "h")
	defer network.Close()
	port := uint32(l.Addr().(*net.TCPAddr).Port)
	if err := network.Try(t.Context(), &purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: &port}}, io.Discard); err != nil {
		t.Error(err)
	}
}

// testNoNetwork: gVisor's is refused, at launch and afterwards, and exec is not.
func testNoNetwork(t *testing.T, n *node) {
	s := web(8080)
	s.Runtime = new("runsc")
	s.Probes = &purserv1.Probes{Ready: get(8080, "/ok"), Live: &purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: new(uint32(8080))}}}
	if err := n.Check(s); !errors.Is(err, runtime.ErrNoNetwork) || !strings.HasPrefix(err.Error(), "probes.ready, probes.live, runtime runsc: the container's network is gVisor's own") {
		t.Errorf("got %v", err)
	}
	s.Probes = &purserv1.Probes{Ready: &purserv1.Probe{Exec: &purserv1.ExecProbe{Command: []string{"true"}}}}
	if err := n.Check(s); err != nil {
		t.Error(err)
	}
	n.start("e", s)
	defer n.delete("e")
	n.await("e", "up")
	if _, err := n.Network(t.Context(), "e"); !errors.Is(err, runtime.ErrNoNetwork) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	command := runtime.ExecSpec{Command: []string{"sh", "-c", "until wget -q -O - http://127.0.0.1:8080/ok; do :; done"}}
	var out strings.Builder
	if code, err := n.Exec(ctx, "e", command, &out, io.Discard); err != nil || code != 0 || out.String() != "fine\n" {
		t.Errorf("%d, %v, %q", code, err, out.String())
	}
}
