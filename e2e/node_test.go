package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"

	"github.com/purserd/purser/e2e/rig"
)

// image is what most tests run: busybox with an environment of its own.
const image = "localhost/box:1"

// patience bounds every wait for a condition.
const patience = 30 * time.Second

// node is `purser dev` on a directory of its own.
type node struct {
	t       testing.TB
	dir     string
	version rig.Version
	host    string
	metrics string
	dev     *exec.Cmd
	ended   chan error
	stderr  *bytes.Buffer
	// env is the environment of the node; the test's own when nil.
	env []string
	// program is the path of purser; what make has built when empty.
	program string
	// launcher is what purser is started by, if not directly.
	launcher []string
	// config are settings of the agent's; none when empty.
	config string
	// network is a process in the node's network namespace; nil when that is the machine's.
	network *exec.Cmd
}

// newNode starts a node with the image imported.
func newNode(t testing.TB, v rig.Version) *node {
	t.Helper()
	n := emptyNode(t, v)
	n.must("image", "import", boxImage(t))
	return n
}

// emptyNode starts a node. When the test ends, so does the node, and what it
// leaves behind is an error.
func emptyNode(t testing.TB, v rig.Version) *node {
	t.Helper()
	return emptyNodeWith(t, v, "")
}

// emptyNodeWith starts a node with settings of the agent's.
func emptyNodeWith(t testing.TB, v rig.Version, config string) *node {
	t.Helper()
	n := &node{t: t, version: v, dir: rig.Dir(t), config: config}
	n.start()
	t.Cleanup(n.cleanup)
	return n
}

// start starts the node and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	n.dev = n.devCommand()
	// A test binary that dies takes the node along.
	n.dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := n.dev.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	n.stderr = &bytes.Buffer{}
	n.dev.Stderr = n.stderr
	if err := n.dev.Start(); err != nil {
		n.t.Fatal(err)
	}
	lines := make(chan string)
	n.ended = make(chan error, 1)
	go func() {
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			lines <- scan.Text()
		}
		close(lines)
		n.ended <- n.dev.Wait()
	}()
	n.readAddresses(lines)
	go func() {
		for range lines {
		}
	}()
}

// devCommand makes the command that is the node.
func (n *node) devCommand() *exec.Cmd {
	n.t.Helper()
	line := append(slices.Clone(n.launcher), n.purser(), "dev", "--dir", n.dir, "--containerd", rig.ContainerdPath(n.t, n.version))
	config := n.config
	if !strings.Contains(config, "[network]") {
		// Nothing of the machine's network is touched by tests that are not about it.
		config += "\n[network]\ndefault_mode = 'none'\n"
	}
	line = append(line, "--config", file(n.t, "agent.toml", config))
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = n.env
	return cmd
}

func (n *node) readAddresses(lines <-chan string) {
	n.t.Helper()
	timeout := time.After(patience)
	n.host, n.metrics = "", ""
	for n.host == "" || n.metrics == "" {
		select {
		case line, ok := <-lines:
			if !ok {
				n.t.Fatalf("purser dev ended: %v\n%s", <-n.ended, n.stderr)
			}
			if host, ok := strings.CutPrefix(line, "ready: export PURSER_HOST="); ok {
				n.host = host
			}
			if url, ok := strings.CutPrefix(line, "metrics: "); ok {
				n.metrics = url
			}
		case <-timeout:
			n.story()
			n.t.Fatalf("purser dev does not serve\n%s", n.stderr)
		}
	}
}

// stop ends the node as Ctrl-C does.
func (n *node) stop() {
	n.t.Helper()
	if err := n.dev.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Errorf("ending purser dev: %v", err)
	}
	select {
	case err := <-n.ended:
		if err != nil {
			n.t.Errorf("purser dev ended with %v\n%s", err, n.stderr)
		}
	case <-time.After(patience):
		n.t.Error("purser dev does not end; killing it")
		n.dev.Process.Kill()
		<-n.ended
	}
	n.dev = nil
}

func (n *node) cleanup() {
	if n.t.Failed() {
		n.story()
	}
	if n.dev != nil {
		n.stop()
	}
	for _, leak := range rig.Leaks(n.dir) {
		n.t.Errorf("the node left %s", leak)
	}
}

// story prints what happened on the node, for a test that failed.
func (n *node) story() {
	events, _ := exec.Command(purser(n.t), "--host", n.host, "events").CombinedOutput()
	n.t.Logf("events:\n%s", tail(string(events), 60))
	for _, name := range []string{"agent.log", "containerd.log"} {
		data, _ := os.ReadFile(filepath.Join(n.dir, "log", name))
		n.t.Logf("%s:\n%s", name, tail(string(data), 40))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// command makes a purser command for this node.
func (n *node) command(args ...string) *exec.Cmd {
	cmd := exec.Command(n.purser(), args...)
	cmd.Env = append(os.Environ(), "PURSER_HOST="+n.host, "NO_COLOR=1")
	return cmd
}

func (n *node) purser() string {
	n.t.Helper()
	if n.program != "" {
		return n.program
	}
	return purser(n.t)
}

// run runs a purser command.
func (n *node) run(args ...string) result {
	n.t.Helper()
	return n.runWith("", args...)
}

// runWith runs a purser command with something on its stdin.
func (n *node) runWith(stdin string, args ...string) result {
	n.t.Helper()
	cmd := n.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	return finish(n.t, cmd)
}

// finish runs a command to its end.
func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs a purser command that has to succeed, and returns its stdout.
func (n *node) must(args ...string) string {
	n.t.Helper()
	r := n.run(args...)
	if r.code != 0 {
		n.t.Fatalf("purser %s: exit status %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// refused runs a purser command that has to fail, and returns its stderr.
func (n *node) refused(args ...string) string {
	n.t.Helper()
	r := n.run(args...)
	if r.code == 0 {
		n.t.Fatalf("purser %s succeeded:\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
	}
	return r.stderr
}

// workload is a workload as -o json shows it.
type workload struct {
	ID, State, Reason, Generation string
	Restarts                      int
	Pins                          []struct {
		Secret  string
		Version int
	}
	Instances []instance
	Rotation  struct{ State, Reason string }
	BackedOut *struct {
		Generation     string
		RunsGeneration string `json:"runs_generation"`
		Reason         string
	} `json:"backed_out"`
	LastExit *struct {
		Code     int
		Reason   string
		Cause    string
		Instance string
	} `json:"last_exit"`
}

// instance is one of a workload's.
type instance struct {
	ID        string
	PID       int
	Addresses []string
}

// is says whether it is the same one, and the same process.
func (i instance) is(other instance) bool { return i.ID == other.ID && i.PID == other.PID }

func (w workload) pid() int {
	if len(w.Instances) == 0 {
		return 0
	}
	return w.Instances[0].PID
}

// get returns a workload's state.
func (n *node) get(id string) workload {
	n.t.Helper()
	var answer struct{ Workload workload }
	if err := n.call("Workloads/Get", fmt.Sprintf(`{"id":%q}`, id), &answer); err != nil {
		n.t.Fatal(err)
	}
	return answer.Workload
}

// json reads what a command prints with -o json.
func (n *node) json(into any, args ...string) {
	n.t.Helper()
	out := n.must(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		n.t.Fatalf("purser %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// await waits for a workload to be in a state.
func (n *node) await(id, what string, ok func(workload) bool) workload {
	n.t.Helper()
	var w workload
	n.eventually(fmt.Sprintf("%s to be %s", id, what), func() bool {
		w = n.get(id)
		return ok(w)
	})
	return w
}

func inState(state string) func(workload) bool {
	return func(w workload) bool { return w.State == state }
}

// eventually waits for a condition.
func (n *node) eventually(what string, ok func() bool) {
	n.t.Helper()
	if !n.eventuallyIs(ok) {
		n.t.Fatalf("waited %v for %s", patience, what)
	}
}

// eventuallyIs waits for a condition, and tells whether it came true.
func (n *node) eventuallyIs(ok func() bool) bool { return rig.ComesTrue(patience, ok) }

// file writes a file for a test and returns its path.
func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// deploy deploys a file given by its content.
func (n *node) deploy(content string, more ...string) string {
	n.t.Helper()
	return n.must(append([]string{"deploy", file(n.t, "app.yaml", content)}, more...)...)
}

// purser is the path of the binary that is tested.
func purser(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("PURSER_BIN"); path != "" {
		return path
	}
	path, err := filepath.Abs("../bin/purser")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatal("no purser to test: run make build")
	}
	return path
}

// boxImage makes the image that most tests run.
func boxImage(t testing.TB) string {
	t.Helper()
	return rig.Busybox(t, rig.Image{Ref: image, Config: v1.Config{
		Env: []string{"PATH=/bin", "FROM_IMAGE=image", "LAYERED=image"},
		Cmd: []string{"sleep", "1000000"},
	}})
}

// containerd lists what a subcommand of ctr shows, without its heading.
func (n *node) containerd(args ...string) []string {
	n.t.Helper()
	ctr := filepath.Join(filepath.Dir(rig.ContainerdPath(n.t, n.version)), "ctr")
	args = append([]string{"--address", filepath.Join(n.dir, "containerd.sock"), "--namespace", "purser"}, args...)
	r := finish(n.t, exec.Command(ctr, args...))
	if r.code != 0 {
		n.t.Fatalf("ctr %v: %s", args, r.stderr)
	}
	var rows []string
	for line := range strings.Lines(r.stdout) {
		if line = strings.TrimSpace(line); line != "" {
			rows = append(rows, line)
		}
	}
	return rows[min(1, len(rows)):]
}

// collectGarbage returns when containerd has let go of what nothing holds.
func (n *node) collectGarbage() {
	n.t.Helper()
	n.containerd("leases", "create", "--id", "garbage")
	n.containerd("leases", "delete", "--sync", "garbage")
}

// containers are the IDs of the containers in containerd.
func (n *node) containers() []string {
	return n.containerd("containers", "list")
}

// pidOf is the process ID of a child of purser dev.
func (n *node) pidOf(t testing.TB, words string) int {
	t.Helper()
	out, _ := exec.Command("pgrep", "-f", "--parent", strconv.Itoa(n.dev.Process.Pid), words).Output()
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("no single process %q under purser dev: %q", words, out)
	}
	return pid
}

// alive says whether a process runs.
func alive(pid int) bool {
	return pid > 0 && syscall.Kill(pid, 0) == nil
}

// within gives a test's command a time limit.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// killAgent kills the agent and waits for the next one.
func (n *node) killAgent() {
	n.t.Helper()
	agent := n.pidOf(n.t, "purser agent")
	if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("a new agent", func() bool { return !alive(agent) && n.serves() })
}

// metricsAddress is that of this agent: another one's is another one.
func (n *node) metricsAddress() string {
	n.t.Helper()
	var answer struct {
		Address string `json:"metrics_address"`
	}
	if err := n.call("Node/Get", "{}", &answer); err != nil {
		n.t.Fatal(err)
	}
	return answer.Address
}

// scrape is what Prometheus gets.
func (n *node) scrape() string {
	n.t.Helper()
	out, err := n.onNetwork("curl", "-sf", "http://"+n.metricsAddress()+"/metrics").Output()
	if err != nil {
		n.t.Fatalf("scraping: %v", err)
	}
	return string(out)
}

// metric is the value of a metric, whose labels are part of its name here.
func (n *node) metric(name string) string {
	n.t.Helper()
	for line := range strings.Lines(n.scrape()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	n.t.Fatalf("there is no metric %s", name)
	return ""
}
