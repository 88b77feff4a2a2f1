package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
)

// Version of containerd.
type Version string

// The versions that purser is tested with.
const (
	V16 Version = "1.6" // Debian's
	V24 Version = "2.4" // see `make test-tools`
)

// Versions are all of them, for tests that run with each.
var Versions = []Version{V16, V24}

// Daemon is a private containerd.
type Daemon struct {
	Version Version
	// Dir is everything's; tests may put their own things there. Its path is
	// short, as those of sockets must be.
	Dir string
	// Address is its socket.
	Address string
	// BinDir holds its executables, ctr among them.
	BinDir string
	// CgroupParent is for the containers of this test alone.
	CgroupParent string

	t    testing.TB
	lock *os.File
	cmd  *exec.Cmd
	// exited is closed when cmd has been waited for.
	exited chan struct{}
}

// Containerd starts a containerd, and returns once it serves. It ends with the test.
func Containerd(t testing.TB, v Version) *Daemon {
	t.Helper()
	return ContainerdWith(t, v, func(*Daemon) string { return "" })
}

// ContainerdWith starts a containerd with more in its configuration, which may name
// what is in its directory.
func ContainerdWith(t testing.TB, v Version, more func(d *Daemon) string) *Daemon {
	t.Helper()
	Root(t)
	need(t, "runc", "apt-get install runc")
	sweepOnce(t)
	d := &Daemon{Version: v, BinDir: binDir(t, v), t: t}
	d.makeDir()
	t.Cleanup(d.cleanup)
	if err := os.WriteFile(d.path("config.toml"), []byte(d.config()+more(d)), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Start()
	return d
}

func (d *Daemon) path(name string) string { return filepath.Join(d.Dir, name) }

// Start starts containerd again after [Daemon.Stop].
func (d *Daemon) Start() {
	d.t.Helper()
	out, err := os.OpenFile(d.path("containerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer out.Close()
	d.cmd = exec.Command(filepath.Join(d.BinDir, "containerd"), "--config", d.path("config.toml"))
	// First in PATH, so that containerd finds the shim of its own version.
	d.cmd.Env = append(os.Environ(), "PATH="+d.BinDir+":"+os.Getenv("PATH"))
	d.cmd.Stdout, d.cmd.Stderr = out, out
	// Ctrl-C in the terminal is for the test, which then cleans up.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatalf("starting containerd: %v", err)
	}
	exited := make(chan struct{})
	d.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(exited)
	}(d.cmd)
	d.awaitServing()
}

// awaitServing asks until it is answered.
func (d *Daemon) awaitServing() {
	d.t.Helper()
	c, err := client.New(d.Address)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if ok, err := c.IsServing(ctx); err != nil || !ok {
		log, _ := os.ReadFile(d.path("containerd.log"))
		d.t.Fatalf("containerd %s does not serve: %v\n%s", d.Version, err, log)
	}
}

// Stop ends containerd and leaves its containers running.
func (d *Daemon) Stop() {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(20 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
	d.cmd = nil
}

// Kill ends containerd with SIGKILL, and leaves its containers running.
func (d *Daemon) Kill() {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill()
	<-d.exited
	d.cmd = nil
}

// config turns off what would reach outside of Dir: CRI, NRI and /opt.
func (d *Daemon) config() string {
	head := "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"
	if d.Version == V24 {
		head = `version = 3
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
  "io.containerd.nri.v1.nri", "io.containerd.podsandbox.controller.v1.podsandbox"]
`
	}
	return head + fmt.Sprintf(`root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.internal.v1.opt"]
  path = %q
`, d.path("root"), d.path("state"), d.Address, d.path("opt"))
}
