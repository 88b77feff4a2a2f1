package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/purserd/purser/e2e/rig"
)

// serviceImage has the service that loses no request when it is stopped.
func serviceImage(t testing.TB) string {
	t.Helper()
	program, err := buildService()
	if err != nil {
		t.Fatal(err)
	}
	return rig.Busybox(t, rig.Image{Ref: "localhost/service:1", Files: map[string]string{"bin/service": program}})
}

// buildService builds the service once.
var buildService = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "purser-test-service")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "service")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./service")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the service: %w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	return string(content), err
})

// bridged is onOne on a node with a container network.
func bridged(t *testing.T, test func(t *testing.T, n *node)) {
	t.Helper()
	onVersions(t, oneFor(t), bridgedNode, test)
}

// bridgedNode is a node with a container network, in a network namespace of its own, and the
// service's image.
func bridgedNode(t testing.TB, v rig.Version) *node {
	t.Helper()
	n := networkNode(t, v, bridgeConfig)
	n.must("image", "import", serviceImage(t))
	return n
}

// port is the node's that leads to the service.
const port = 18080

// published is a spec of the service, with a port of the node's that leads to it.
func published(port int, version string, more ...string) string {
	return fmt.Sprintf(`
app: a
function: f
image: {ref: localhost/service:1}
command: [service]
env: {VERSION: %q}
network: {mode: bridge, ports: [{container: 8080, host: %d}, {container: 8080, host: %[2]d, protocol: udp}]}
probes: {ready: {tcp: {port: 8080}, period: 50ms}}
restart: {backoff_min: 100ms}
%s
`, version, port, strings.Join(more, "\n"))
}

// ask gets a page of the service's.
func (n *node) ask(port int, path string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.dial}, Timeout: patience}
	answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return strings.TrimSpace(string(body)), err
}

// tell sends a datagram to the service and returns its answer.
func (n *node) tell(port int, text string) (string, error) {
	return n.tellAt("127.0.0.1", port, text)
}

func (n *node) tellAt(host string, port int, text string) (string, error) {
	conn, err := n.dial(n.t.Context(), "udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	buf := make([]byte, 2048)
	for range 10 { // as datagrams may be lost
		if _, err := conn.Write([]byte(text)); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := conn.Read(buf); err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", fmt.Errorf("no answer to %q", text)
}

func TestPorts(t *testing.T) {
	bridged(t, func(t *testing.T, n *node) {
		n.deploy(published(port, "1"), "--wait")
		w := n.get("a/f")
		for _, host := range []string{"127.0.0.1", "::1"} {
			conn, err := n.dial(t.Context(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if err != nil {
				t.Errorf("connecting to %s: %v", host, err)
				continue
			}
			conn.Close()
			if got, err := n.tellAt(host, port, "hello"); err != nil || got != w.Instances[0].ID+" hello" {
				t.Errorf("to a datagram at %s it answers %q, %v", host, got, err)
			}
		}
		if got, err := n.ask(port, "/"); err != nil || got != w.Instances[0].ID+" 1" {
			t.Errorf("it answers %q, %v", got, err)
		}
		t.Run("taken", func(t *testing.T) { testPortTaken(t, n) })
		t.Run("agent killed", func(t *testing.T) {
			n.killAgent()
			if got, err := n.ask(port, "/"); err != nil || got != w.Instances[0].ID+" 1" {
				t.Errorf("it answers %q, %v", got, err)
			}
		})
		t.Run("stopped", func(t *testing.T) {
			n.must("stop", "a/f")
			if _, err := n.ask(port, "/"); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("its port is not closed: %v", err)
			}
			n.must("start", "a/f")
			if got, err := n.ask(port, "/"); err != nil || !strings.HasSuffix(got, " 1") {
				t.Errorf("started again, it answers %q, %v", got, err)
			}
		})
		if got := n.metric(`purser_port_connections_total{result="forwarded"}`); got == "0" {
			t.Error("no connection is counted")
		}
		// Else some 470 new connections a second would use up the ports that there are.
		if got, err := n.onNetwork("cat", "/proc/sys/net/ipv4/tcp_tw_reuse").Output(); err != nil || string(got) != "1\n" {
			t.Errorf("ports are used again by %q, %v", got, err)
		}
		n.must("rm", "a/f")
		if _, err := n.ask(port, "/"); err == nil {
			t.Error("a removed workload answers")
		}
	})
}

// testPortTaken has launches refused that want a port which somebody has.
func testPortTaken(t *testing.T, n *node) {
	other := func(port int) string {
		return file(t, "other.yaml", strings.Replace(published(port, "1"), "function: f", "function: g", 1))
	}
	said := n.refused("deploy", other(port))
	for _, want := range []string{strconv.Itoa(port), "dev/a/f"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %s: %s", want, said)
		}
	}
	const held = 18082
	holder := n.onNetwork("busybox", "nc", "-l", "-p", strconv.Itoa(held))
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { holder.Process.Kill(); holder.Wait() }()
	n.eventually("a process to listen", func() bool {
		out, _ := n.onNetwork("busybox", "netstat", "-ltn").Output()
		return strings.Contains(string(out), fmt.Sprintf(":%d ", held))
	})
	said = n.refused("deploy", other(held))
	if want := strconv.Itoa(holder.Process.Pid); !strings.Contains(said, want) {
		t.Errorf("it does not say that process %s has it: %s", want, said)
	}
	said = n.refused("deploy", file(t, "other.yaml", strings.NewReplacer("function: f", "function: g", "host: 18080", "host: 18083, host_ip: 192.0.2.9").Replace(published(port, "1"))))
	if want := "host_ip 192.0.2.9 is not an address of the node's"; !strings.Contains(said, want) {
		t.Errorf("it does not say %q: %s", want, said)
	}
	if got := n.must("ps", "-a"); strings.Contains(got, "a/g") {
		t.Errorf("what was refused is there:\n%s", got)
	}
	// What is removed by a deploy makes room for what is new in it.
	app := func(function string, port int) string {
		return file(t, "b.yaml", fmt.Sprintf(`
app: b
functions:
  - {function: %s, image: {ref: localhost/service:1}, command: [service], network: {ports: [{container: 8080, host: %d}]}}
`, function, port))
	}
	const own = 18081
	n.must("deploy", app("old", own), "--wait")
	n.must("deploy", app("new", own), "--wait")
	if got, err := n.ask(own, "/"); err != nil || !strings.HasPrefix(got, n.get("b/new").Instances[0].ID) {
		t.Errorf("under its new name it answers %q, %v", got, err)
	}
	n.must("rm", "b/new")
}

// How many clients a load is that keep their connections, and that make one for each request.
const loadKept, loadFresh = 8, 4

// loaded puts a load on a service while something is done, and says how it went.
func (n *node) loaded(t *testing.T, do func()) rig.LoadReport {
	t.Helper()
	load := &rig.Load{Kept: loadKept, Fresh: loadFresh, Patience: patience, Pause: 2 * time.Millisecond, FreshPause: 20 * time.Millisecond, Dial: func(ctx context.Context) (net.Conn, error) {
		return n.dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	}}
	load.Start()
	do()
	report := load.Stop()
	t.Log(report)
	return report
}

// However often a service is replaced, no request fails.
func TestPortsMove(t *testing.T) {
	bridged(t, func(t *testing.T, n *node) {
		n.deploy(published(port, "0"), "--wait")
		report := n.loaded(t, func() {
			for i := range 20 {
				n.deploy(published(port, strconv.Itoa(i+1)), "--wait")
			}
		})
		if got, err := n.ask(port, "/"); err != nil || !strings.HasSuffix(got, " 20") {
			t.Errorf("in the end it answers %q, %v", got, err)
		}
		if len(report.Failures) > 0 || len(report.Answers) < 15 {
			t.Errorf("while it was replaced 20 times: %v", report)
		}
	})
}

// Nor when there is none in between that serves: requests wait.
func TestPortsWait(t *testing.T) {
	t.Parallel()
	n := bridgedNode(t, rig.V24)
	n.deploy(published(port, "0", "rotation: {strategy: restart}"), "--wait")
	const changes = 5
	report := n.loaded(t, func() {
		for i := range changes {
			n.deploy(published(port, strconv.Itoa(i+1), "rotation: {strategy: restart}"), "--wait")
			n.asked()
		}
	})
	if len(report.Failures) > 0 || len(report.Answers) != changes+1 {
		t.Errorf("while it was restarted %d times: %v", changes, report)
	}
}

// However often the agent is killed, no request fails.
func TestPortsOutliveTheAgent(t *testing.T) {
	bridged(t, func(t *testing.T, n *node) {
		n.deploy(published(port, "0"), "--wait")
		report := n.loaded(t, func() {
			end := n.drive()
			for range 20 {
				end()
				end = n.startAgent()
			}
			end()
			n.letGo()
			n.eventually("purser dev's agent", func() bool { return n.serves() })
		})
		if len(report.Failures) > 0 || len(report.Answers) != 1 {
			t.Errorf("while the agent was killed 21 times: %v", report)
		}
	})
}

// When an instance crashes, only what was under way on it fails.
func TestPortsAfterACrash(t *testing.T) {
	bridged(t, func(t *testing.T, n *node) {
		n.deploy(published(port, "0"), "--wait")
		const crashes = 5
		crashed := []string{""} // which is a connection without an answer
		report := n.loaded(t, func() {
			for i := range crashes {
				w := n.get("a/f")
				before := w.Restarts
				crashed = append(crashed, w.Instances[0].ID)
				_, _ = n.ask(port, "/crash")
				n.await("a/f", "ready again", func(w workload) bool { return w.Restarts > before && w.State == "ready" })
				if got, err := n.ask(port, "/"); err != nil {
					t.Errorf("after crash %d: %q, %v", i+1, got, err)
				}
			}
		})
		// A client has one request under way.
		if most := crashes * (loadKept + loadFresh); len(report.Failures) > most {
			t.Errorf("more failed than were under way: %v", report)
		}
		for _, f := range report.Failures {
			// A reset is the instance's, even when it comes before the client is connected.
			if strings.Contains(f.What, "refused") || strings.Contains(f.What, "timeout") || !slices.Contains(crashed, f.Instance) {
				t.Errorf("one that was not under way: %+v", f)
			}
		}
	})
}

// wrk counts what fails, too, and is nobody's of this project.
func TestPortsUnderWrk(t *testing.T) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		rig.Lacking(t, "wrk: apt-get install wrk")
	}
	t.Parallel()
	n := bridgedNode(t, rig.V24)
	n.deploy(published(port, "0"), "--wait")
	done := make(chan string)
	go func() {
		out, err := n.onNetwork(wrk, "-t2", "-c16", "-d15s", "--timeout", "10s", fmt.Sprintf("http://127.0.0.1:%d/", port)).CombinedOutput()
		if err != nil {
			out = fmt.Appendf(out, "%v", err)
		}
		done <- string(out)
	}()
	version := 0
	for {
		select {
		case said := <-done:
			t.Logf("%d new versions: %s", version, said)
			if version < 5 || strings.Contains(said, "Socket errors") || strings.Contains(said, "Non-2xx") || !strings.Contains(said, "requests in") {
				t.Errorf("requests failed:\n%s", said)
			}
			return
		default:
			version++
			n.deploy(published(port, strconv.Itoa(version)), "--wait")
		}
	}
}

// The container is told the client's address where that is asked for, in either version and
// of either family.
func TestPortsProxyProtocol(t *testing.T) {
	t.Parallel()
	n := bridgedNode(t, rig.V24)
	const v1, v2 = port, port + 1
	// It sends back what it gets, the header first.
	n.deploy(fmt.Sprintf(`
app: a
function: f
image: {ref: localhost/service:1}
command: [sh, -c, 'nc -ll -p 9001 -e cat & nc -ll -p 9002 -e cat']
network: {ports: [{container: 9001, host: %d, proxy_protocol: v1}, {container: 9002, host: %d, proxy_protocol: v2}]}
stop: {grace: 0s}
`, v1, v2), "--wait")
	for version, port := range map[byte]int{1: v1, 2: v2} {
		for _, host := range []string{"127.0.0.1", "::1"} {
			t.Run(fmt.Sprintf("v%d %s", version, host), func(t *testing.T) {
				testProxyProtocol(t, n, version, net.JoinHostPort(host, strconv.Itoa(port)))
			})
		}
	}
}

// testProxyProtocol connects to a port whose container sends everything back.
func testProxyProtocol(t *testing.T, n *node, version byte, address string) {
	conn, err := n.dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	header, err := proxyproto.Read(reader)
	if err != nil {
		t.Fatalf("what the container was sent first: %v", err)
	}
	if header.Version != version || header.SourceAddr.String() != conn.LocalAddr().String() || header.DestinationAddr.String() != address {
		t.Errorf("the container was told %+v, connected from %s", header, conn.LocalAddr())
	}
	if got, err := reader.ReadString('\n'); err != nil || got != "hello\n" {
		t.Errorf("after the header the container was sent %q, %v", got, err)
	}
}
