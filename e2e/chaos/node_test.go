package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	containerd "github.com/containerd/containerd/v2/client"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/failpoint"
)

// image is what all workloads run.
const image = "localhost/box:1"

// environment is that of all workloads and secrets.
const environment = "dev"

// settings say what a node is like.
type settings struct {
	version  rig.Version
	runtimes []string
	// disk has all of it on a block device, which can be searched.
	disk bool
}

// node is an agent that is started again whenever it dies, on a private containerd.
type node struct {
	t        *testing.T
	settings settings
	daemon   *rig.Daemon
	api      *client.Client
	// below are containerd's own words, to compare the agent's with.
	below   *containerd.Client
	program string
	device  string // the file behind the block device; empty without
	points  string // the directory of armed failpoints
	// truth is a directory where the payloads themselves say what they do.
	truth    string
	registry *rig.Registry

	mu       sync.Mutex
	agent    *os.Process // nil while none runs
	unwanted bool        // no further one is to be started
	deaths   int
	wrong    []string // ends of agents that nobody caused
	kept     chan struct{}
}

// newNode starts a node with the image.
func newNode(t *testing.T, s settings) *node {
	t.Helper()
	n := &node{t: t, settings: s, program: rig.Failing(t), truth: t.TempDir(), kept: make(chan struct{})}
	if s.disk {
		n.device = filepath.Join(rig.Dir(t), "disk")
	}
	rig.ContainerdWith(t, s.version, n.layOut)
	n.connect()
	n.configure()
	n.registry = rig.StartRegistry(t, rig.RegistryOptions{})
	n.registry.Push("pulled:1", rig.Image{})
	go n.keep()
	t.Cleanup(n.end)
	n.awaitAgent(30 * time.Second)
	n.importImage()
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.daemon.Dir, name) }

// layOut mounts a block device where everything of the node will be.
func (n *node) layOut(d *rig.Daemon) string {
	n.daemon = d
	if n.device != "" {
		for _, command := range [][]string{
			{"truncate", "-s", "768M", n.device}, {"mkfs.ext4", "-q", "-F", n.device}, {"mount", "-o", "loop", n.device, d.Dir},
		} {
			n.command(command[0], command[1:]...)
		}
	}
	n.points = filepath.Join(d.Dir, "points")
	for _, dir := range []string{n.points, filepath.Join(d.Dir, "tmp")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			n.t.Fatal(err)
		}
	}
	return ""
}

func (n *node) command(name string, args ...string) string {
	n.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PURSER_HOST=unix://"+n.path("p.sock"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *node) connect() {
	n.t.Helper()
	var err error
	if n.api, err = client.New("unix://" + n.path("p.sock")); err != nil {
		n.t.Fatal(err)
	}
	if n.below, err = containerd.New(n.daemon.Address, containerd.WithDefaultNamespace("purser")); err != nil {
		n.t.Fatal(err)
	}
}

// configure writes the agent's configuration. Segments are short, so that logs
// rotate, and so is the time between sweeps.
func (n *node) configure() {
	n.t.Helper()
	config := fmt.Sprintf(`state_dir = %q
run_dir = %q
socket = %q
wrapper = %q
cgroup_parent = %q
allowed_roots = [%q]
default_runtime = %q
[containerd]
address = %q
[metrics]
address = "127.0.0.1:0"
[logs]
segment_size = "64Ki"
[sweep]
period = "1s"
[network]
default_mode = "bridge"
bridge = "chaos%[9]s"
subnets = ["10.96.%[9]s.0/24", "fd00:96:%[9]s::/64"]
pool = 1
[rotation]
quiet = "300ms"
max_delay = "2s"
`, n.path("s"), n.path("r"), n.path("p.sock"), rig.Wrapper(n.t), n.daemon.CgroupParent, n.truth, n.settings.runtimes[0], n.daemon.Address, strings.ReplaceAll(string(n.settings.version), ".", ""))
	for _, r := range n.settings.runtimes {
		path := "runc"
		if r != "runc" {
			path = rig.Runtime(n.t, r)
		}
		config += fmt.Sprintf("[runtimes.%s]\npath = %q\n", r, path)
	}
	if err := os.WriteFile(n.path("agent.toml"), []byte(config), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// keep starts an agent, and the next one whenever it is killed.
func (n *node) keep() {
	defer close(n.kept)
	for {
		cmd, err := n.startAgent()
		if cmd == nil {
			n.blame(err)
			return
		}
		ended := cmd.Wait()
		n.mu.Lock()
		n.agent = nil
		n.deaths++
		over := n.unwanted
		n.mu.Unlock()
		if over {
			return
		}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			n.blame(fmt.Errorf("the agent ended by itself: %v", ended))
			<-time.After(200 * time.Millisecond)
		}
	}
}

// startAgent starts one; nil when none is to be.
func (n *node) startAgent() (*exec.Cmd, error) {
	log, err := os.OpenFile(n.path("agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(n.program, "agent", "--config", n.path("agent.toml"), "--log-level", "debug")
	cmd.Env = append(os.Environ(), failpoint.Variable+"="+n.points, "TMPDIR="+n.path("tmp"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.unwanted {
		return nil, nil
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	n.agent = cmd.Process
	return cmd, nil
}

// died is how many agents have ended.
func (n *node) died() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaths
}

func (n *node) blame(err error) {
	if err == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong = append(n.wrong, err.Error())
}

// killAgent has the agent die at this moment.
func (n *node) killAgent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent != nil {
		_ = n.agent.Kill()
	}
}

// awaitAgent waits until an agent serves.
func (n *node) awaitAgent(limit time.Duration) {
	n.t.Helper()
	if !rig.ComesTrue(limit, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := n.api.Node.Get(ctx, connect.NewRequest(&purserv1.GetNodeRequest{}))
		return err == nil
	}) {
		n.askWhere()
		n.t.Fatalf("no agent serves within %s", limit)
	}
}

// askWhere has an agent that hangs write to its log where, and end by that.
func (n *node) askWhere() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent != nil {
		_ = n.agent.Signal(syscall.SIGQUIT)
		<-time.After(time.Second)
	}
}

// importImage imports the image, as root's busybox.
func (n *node) importImage() {
	n.t.Helper()
	layout := rig.Busybox(n.t, rig.Image{Ref: image, Config: v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep", "1000000"}}})
	n.command(n.program, "image", "import", layout)
}

// stopAgent ends the agent for good.
func (n *node) stopAgent() {
	n.mu.Lock()
	n.unwanted = true
	if n.agent != nil {
		_ = n.agent.Signal(syscall.SIGTERM)
	}
	n.mu.Unlock()
	select {
	case <-n.kept:
	case <-time.After(20 * time.Second):
		n.t.Error("the agent does not end")
		n.killAgent()
		<-n.kept
	}
}

// end ends the node. A test that failed leaves its device mounted, to be let go here.
func (n *node) end() {
	if n.t.Failed() {
		n.story()
	}
	n.stopAgent()
	n.below.Close()
	n.api.Close()
	if n.device != "" && slices.Contains(rig.Mounts(n.daemon.Dir), n.daemon.Dir) {
		n.daemon.Stop()
		rig.PowerOff(n.t, n.daemon.Dir)
	}
}

// close ends a node that is empty, and fails the test for what it leaves.
func (n *node) close() {
	n.t.Helper()
	n.stopAgent()
	n.daemon.AwaitEnd()
	n.daemon.Stop()
	private := n.path("r/private")
	n.closePool()
	for _, m := range rig.Mounts(n.daemon.Dir) {
		if m != private && m != n.daemon.Dir {
			n.t.Errorf("mount %s is left", m)
		}
	}
	// A helper that has nothing to do takes a moment to leave.
	var err error
	if !rig.ComesTrue(15*time.Second, func() bool { err = unix.Unmount(private, 0); return err != unix.EBUSY }) {
		n.t.Errorf("something of the node still uses its private directory: %v", err)
	}
	if n.device == "" || n.t.Failed() {
		return
	}
	unix.Sync()
	if !rig.ComesTrue(15*time.Second, func() bool { err = unix.Unmount(n.daemon.Dir, 0); return err == nil }) {
		n.t.Errorf("something of the node still uses its disk: %v", err)
	}
	unix.Sync()
}

// closePool lets go of the network namespace that is ready, as no container has claimed it,
// and fails the test if there is another one, or an address that is none's.
func (n *node) closePool() {
	n.t.Helper()
	for _, pattern := range []string{"r/network/netns/*", "s/network/attachments/*", "r/network/addresses/*/*.*.*.*", "r/network/addresses/*/*:*"} {
		found, _ := filepath.Glob(n.path(pattern))
		if len(found) > 1 {
			n.t.Errorf("more is left of the network than is ready: %v", found)
		}
	}
	ready, _ := filepath.Glob(n.path("r/network/netns/*"))
	for _, path := range ready {
		_ = unix.Unmount(path, unix.MNT_DETACH)
	}
}

// story prints what happened on the node.
func (n *node) story() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var events strings.Builder
	if stream, err := n.api.Node.Events(ctx, connect.NewRequest(&purserv1.EventsRequest{})); err == nil {
		for stream.Receive() {
			e := stream.Msg().GetEvent()
			fmt.Fprintf(&events, "%s %s %s: %s\n", e.GetTime().AsTime().Format("15:04:05.000"), e.GetType(), e.GetSubject(), e.GetMessage())
		}
		_ = stream.Close()
	}
	n.t.Logf("events:\n%s", tail(events.String(), 100))
	for _, name := range []string{"agent.log", "containerd.log"} {
		data, err := os.ReadFile(n.path(name))
		if err != nil {
			continue
		}
		kept := filepath.Join(os.TempDir(), fmt.Sprintf("chaos-%d-%s-%s", *seed, n.settings.version, name))
		_ = os.WriteFile(kept, data, 0o600)
		n.t.Logf("%s (whole: %s):\n%s", name, kept, tail(string(data), 60))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// arm says what is to happen at a step.
func (n *node) arm(point, action string, passing int) {
	path := filepath.Join(n.points, point)
	// Whole at once: an agent may be passing it.
	err := os.WriteFile(path+".new", fmt.Appendf(nil, "%s %d", action, passing), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// armed says whether something is still to happen at one of some steps.
func (n *node) armed(points []string) bool {
	return slices.ContainsFunc(points, func(point string) bool {
		_, err := os.Stat(filepath.Join(n.points, point))
		return err == nil
	})
}

// disarm has nothing more happen, and returns the steps at which it has.
func (n *node) disarm() (hit []string) {
	entries, err := os.ReadDir(n.points)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), failpoint.Hit); ok {
			hit = append(hit, name)
		}
		_ = os.Remove(filepath.Join(n.points, e.Name()))
	}
	return hit
}

// process is the first process of a container.
type process struct {
	pid, parent        int
	workload, instance string
	env                map[string]string
}

// running are the first processes of all containers of this node, as the kernel has
// them: its own are told from others by the directory of truth in their environment.
func (n *node) running() []process {
	var all []process
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		environ, err := os.ReadFile("/proc/" + d.Name() + "/environ")
		if err != nil || !bytes.Contains(environ, []byte("CHAOS="+n.truth+"\x00")) {
			continue
		}
		if p, ok := firstProcess(d.Name(), environ); ok {
			all = append(all, p)
		}
	}
	return all
}

// firstProcess reads a process, if it is number 1 of a namespace.
func firstProcess(dir string, environ []byte) (process, bool) {
	status, err := os.ReadFile("/proc/" + dir + "/status")
	if err != nil {
		return process{}, false
	}
	p := process{env: map[string]string{}}
	first := false
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		switch fields := strings.Fields(value); key {
		case "NSpid":
			first = len(fields) > 1 && fields[len(fields)-1] == "1"
		case "Pid":
			fmt.Sscan(value, &p.pid)
		case "PPid":
			fmt.Sscan(value, &p.parent)
		}
	}
	for _, entry := range strings.Split(string(environ), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		p.env[key] = value
	}
	p.workload, p.instance = p.env["PURSER_WORKLOAD"], p.env["PURSER_INSTANCE"]
	return p, first
}

// ask gives a call its time.
func ask[Req, Res any](call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), request *Req) (*Res, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	response, err := call(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}
