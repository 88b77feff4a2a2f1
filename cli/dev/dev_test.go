package dev

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/e2e/rig"
)

func TestLayoutSockets(t *testing.T) {
	short := newLayout("/tmp/node")
	if got := short.agentSocket(); got != "/tmp/node/purser.sock" {
		t.Errorf("socket %s", got)
	}
	long := newLayout("/tmp/" + strings.Repeat("x", 90))
	for _, path := range []string{long.agentSocket(), long.containerdSocket() + ".ttrpc"} {
		if len(path) > maxSocketPath || !strings.HasPrefix(path, "/run/purser-dev-") {
			t.Errorf("socket of a long directory: %s", path)
		}
	}
	if short.cgroupParent() == long.cgroupParent() {
		t.Error("two nodes share a cgroup")
	}
}

func TestLayoutIsOneForEveryLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	direct, err := makeLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	linked, err := makeLayout(link)
	if err != nil {
		t.Fatal(err)
	}
	if direct.hash != linked.hash || direct.dir != linked.dir {
		t.Errorf("one directory, two nodes: %+v, %+v", direct, linked)
	}
}

func TestSocketsGoFilesStay(t *testing.T) {
	l := newLayout(t.TempDir())
	if err := os.WriteFile(l.path(agentSocketName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", l.path(containerdSocketName)); err != nil {
		t.Fatal(err)
	}
	l.removeSockets()
	if _, err := os.Lstat(l.path(agentSocketName)); err != nil {
		t.Error("a file that is no socket was removed")
	}
	if _, err := os.Lstat(l.path(containerdSocketName)); err == nil {
		t.Error("a link stayed")
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	l := newLayout(t.TempDir())
	unlock, err := l.lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.lock(); err == nil || !strings.Contains(err.Error(), "another purser dev (pid ") {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	again, err := l.lock()
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again()
}

func TestConfigs(t *testing.T) {
	l, err := makeLayout(filepath.Join(t.TempDir(), `a "quoted" dir`))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.writeConfigs(l.agentConfig(&programs{runc: "/usr/sbin/runc", others: map[string]string{"crun": "/usr/bin/crun"}})); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(l.path("agent.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket != l.agentSocket() || c.StateDir != l.path("state") || c.Runtimes["runc"].Path != "/usr/sbin/runc" {
		t.Errorf("the agent reads %+v", c)
	}
	if c.Metrics.Address != "127.0.0.1:0" || len(c.AllowedRoots) != 0 {
		t.Errorf("the agent reads %+v", c)
	}
}

// A file of the user's changes what it names, and not where the node is.
func TestConfigOfTheUser(t *testing.T) {
	l, p := newLayout("/tmp/node"), &programs{runc: "/usr/sbin/runc"}
	file := filepath.Join(t.TempDir(), "mine.toml")
	configure := func(text string) (*config.Config, error) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return l.configure(p, file)
	}
	c, err := configure("private_ramfs = true\n[secrets]\nkeep_versions = 3\n[runtimes.crun]\npath = '/usr/bin/crun'")
	if err != nil || !c.PrivateRamfs || c.Secrets.KeepVersions != 3 || c.Socket != l.agentSocket() || len(c.Runtimes) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := configure("nonsense = 1"); err == nil || !strings.Contains(err.Error(), file+":1:1: unknown key nonsense") {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := configure("socket = '/run/x'"); err == nil || !strings.Contains(err.Error(), "socket cannot be set for purser dev") {
		t.Errorf("another socket: %v", err)
	}
	if _, err := l.configure(p, "/no/such"); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestMissingPrograms(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := findPrograms("", nil)
	if err == nil || !strings.Contains(err.Error(), "not found: containerd, runc; on Debian and Ubuntu: apt install containerd runc") {
		t.Errorf("nothing is installed: %v", err)
	}
	if _, err := findPrograms("/nowhere/containerd", nil); err == nil || !strings.Contains(err.Error(), "--containerd") {
		t.Errorf("a path to nothing: %v", err)
	}
}

func TestProgramsInUsualDirs(t *testing.T) {
	t.Setenv("PATH", "/elsewhere")
	sbin, opt := t.TempDir(), t.TempDir()
	for _, path := range []string{
		filepath.Join(sbin, "containerd"), filepath.Join(sbin, "runc"), filepath.Join(sbin, shimName),
		filepath.Join(opt, "containerd"), filepath.Join(opt, shimName),
	} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p, err := findPrograms("", []string{sbin})
	if err != nil || p.containerd != filepath.Join(sbin, "containerd") {
		t.Errorf("found %+v, %v", p, err)
	}
	p, err = findPrograms(opt, []string{sbin})
	if err != nil || p.containerd != filepath.Join(opt, "containerd") || p.runc != filepath.Join(sbin, "runc") {
		t.Errorf("found %+v, %v", p, err)
	}
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	env := p.environ()
	if !strings.HasPrefix(env[0], "PATH="+opt+":") {
		t.Errorf("containerd's own shim does not come first: %s", env[0])
	}
	for _, entry := range env[1:] {
		if strings.HasPrefix(entry, "PATH=") || strings.HasPrefix(entry, "NOTIFY_SOCKET=") {
			t.Errorf("the children get %s", entry)
		}
	}
}

func TestShimID(t *testing.T) {
	l := newLayout("/tmp/node")
	cmdline := func(args ...string) []string { return args }
	ours := cmdline("/usr/bin/"+shimName, "-namespace", "purser", "-id", "abc", "-address", "/tmp/node/containerd.sock")
	if id, ok := l.shimID(ours); !ok || id != "abc" {
		t.Errorf("own shim: %q, %v", id, ok)
	}
	for name, other := range map[string][]string{
		"another node's":      cmdline(shimName, "-namespace", "purser", "-id", "abc", "-address", "/tmp/node2/containerd.sock"),
		"another namespace's": cmdline(shimName, "-namespace", "k8s.io", "-id", "abc", "-address", "/tmp/node/containerd.sock"),
		"another program":     cmdline("vi", "-namespace", "purser", "-id", "abc", "-address", "/tmp/node/containerd.sock"),
		"truncated":           cmdline(shimName, "-address"),
		"kernel thread":       {""},
	} {
		if _, ok := l.shimID(other); ok {
			t.Errorf("%s is taken for a shim of this node", name)
		}
	}
}

func TestOwnMounts(t *testing.T) {
	l := newLayout("/tmp/node")
	for path, want := range map[string]bool{
		"/tmp/node/containerd/state/x/rootfs": true,
		"/tmp/node/run/instances/x":           true,
		"/tmp/node":                           false,
		"/tmp/node/containerd":                false,
		"/tmp/node/mine":                      false,
		"/tmp/node2/run/x":                    false,
	} {
		if got := l.ownMount(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for text, want := range map[string]string{
		"unix:///tmp/n1/purser.sock": "unix:///tmp/n1/purser.sock",
		"unix:///tmp/a b":            "'unix:///tmp/a b'",
		"it's":                       `'it'\''s'`,
		"$(reboot)":                  "'$(reboot)'",
		"":                           "''",
	} {
		if got := shellQuote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestRunNeedsRoot(t *testing.T) {
	failed := make(chan error)
	go func() {
		// This thread alone is nobody's from now on, and ends with the goroutine.
		goruntime.LockOSThread()
		if os.Geteuid() == 0 {
			const nobody, same = 65534, ^uintptr(0)
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, nobody, same); errno != 0 {
				failed <- errno
				return
			}
		}
		failed <- Run(Options{Dir: t.TempDir(), Out: new(bytes.Buffer), Err: new(bytes.Buffer)})
	}()
	err := <-failed
	if err == nil || !strings.Contains(err.Error(), "sudo purser dev") {
		t.Errorf("without root: %v", err)
	}
}

// A configuration that is wrong leaves no directory behind.
func TestWrongConfigMakesNothing(t *testing.T) {
	rig.Root(t)
	unknown := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(unknown, []byte("nope = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/nope.toml", unknown} {
		dir := filepath.Join(t.TempDir(), "node")
		if err := Run(Options{Dir: dir, Config: file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s is there: %v", file, dir, err)
		}
	}
}
