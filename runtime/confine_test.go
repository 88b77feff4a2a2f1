package runtime_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// TestInside looks at containers from inside.
func TestInside(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		for name, c := range map[string]struct {
			spec *purserv1.LaunchSpec
			want string
		}{
			"loopback alone, and up": {spec("sh", "-c", "ls /sys/class/net; ping -c1 -q 127.0.0.1 >/dev/null 2>&1; cat /sys/class/net/lo/operstate"),
				"lo\nunknown\n"},
			"user by name, and its groups": {with(spec("id"), func(s *purserv1.LaunchSpec) { s.User = new("app") }),
				"uid=1000(app) gid=1000(app) groups=2000(extra)\n"},
			"no privileges": {spec("grep", "-E", "NoNewPrivs|Seccomp:|CapEff", "/proc/self/status"),
				"CapEff:\t00000000800405fb\nNoNewPrivs:\t1\nSeccomp:\t2\n"},
			"none at all for other users": {with(spec("grep", "CapEff", "/proc/self/status"), func(s *purserv1.LaunchSpec) { s.User = new("1000") }),
				"CapEff:\t0000000000000000\n"},
			"no core dumps": {spec("sh", "-c", "grep core /proc/self/limits | tr -s ' '"),
				"Max core file size 1 1 bytes \n"},
			"working directory made": {with(spec("pwd"), func(s *purserv1.LaunchSpec) {
				s.Workdir, s.ReadOnlyRoot = new("/made/for/it"), new(true)
			}), "/made/for/it\n"},
			"read-only root": {with(spec("sh", "-c", "touch /x 2>/dev/null || echo no; touch /tmp/x && echo yes"), func(s *purserv1.LaunchSpec) {
				s.ReadOnlyRoot = new(true)
				s.Mounts = []*purserv1.Mount{{Type: new("tmpfs"), Target: new("/tmp"), Size: new("1Mi")}}
			}), "no\nyes\n"},
			"names": {spec("sh", "-c", "hostname; grep -c localhost /etc/hosts; ls /etc/resolv.conf 2>/dev/null || echo none"),
				"ID\n2\nnone\n"},
		} {
			t.Run(name, func(t *testing.T) {
				id := strings.ReplaceAll(strings.Map(letters, name), " ", "")
				code, out, stderr := n.run(id, c.spec)
				if want := strings.ReplaceAll(c.want, "ID", id); code != 0 || out != want {
					t.Errorf("status %d, %q, %q; want %q", code, out, stderr, want)
				}
			})
		}
		t.Run("limits", func(t *testing.T) { testLimits(t, n) })
		t.Run("host network", func(t *testing.T) { testHostNetwork(t, n) })
		t.Run("mounts", func(t *testing.T) { testMounts(t, n) })
	})
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r
	}
	return -1
}

func with(s *purserv1.LaunchSpec, change func(*purserv1.LaunchSpec)) *purserv1.LaunchSpec {
	change(s)
	return s
}

func testLimits(t *testing.T, n *node) {
	limited := spec("sh", "-c", "echo ready; read x; cat /dev/zero | head -c 200000000 | tail >/dev/null; echo survived")
	limited.Resources = &purserv1.Resources{Cpu: new(0.5), Memory: new("32Mi"), Pids: new(uint32(20))}
	limited.Stdin = new(true)
	n.start("limits", limited)
	n.await("limits", "ready")
	all, err := n.Stats(t.Context())
	if s := all["limits"]; err != nil || s.Memory == 0 || s.CPU == 0 || s.OOMKills != 0 {
		t.Errorf("stats %+v, %v", s, err)
	}
	pids, err := filepath.Glob("/sys/fs/cgroup/*" + n.cfg.CgroupParent + "/limits/pids.max")
	if err != nil || len(pids) != 1 {
		t.Fatalf("its cgroup: %v, %v", pids, err)
	}
	if max, err := os.ReadFile(pids[0]); err != nil || string(max) != "20\n" {
		t.Errorf("pids.max is %q, %v", max, err)
	}
	stdin, err := n.Stdin("limits")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	n.wait("limits")
	all, err = n.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := all["limits"]; ok && s.OOMKills == 0 {
		t.Errorf("nothing was killed: %+v", s)
	}
}

func testHostNetwork(t *testing.T, n *node) {
	s := spec("sh", "-c", "readlink /proc/self/ns/net; hostname; cat /etc/resolv.conf")
	s.Network = &purserv1.Network{Mode: new("host")}
	_, out, _ := n.run("host", s)
	ns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	name, _ := os.Hostname()
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	if want := ns + "\n" + name + "\n" + string(resolv); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func testMounts(t *testing.T, n *node) {
	data := filepath.Join(n.daemon.Dir, "data")
	if err := os.Mkdir(data, 0o777); err != nil {
		t.Fatal(err)
	}
	n.cfg.AllowedRoots = []string{n.daemon.Dir}
	n.Close()
	n.open()
	s := spec("sh", "-c", "echo written >/data/file; touch /read/only 2>/dev/null || cat /read/file")
	s.Mounts = []*purserv1.Mount{
		{Source: &data, Target: new("/data")},
		{Source: &data, Target: new("/read"), ReadOnly: new(true)},
	}
	if code, out, stderr := n.run("mounts", s); code != 0 || out != "written\n" {
		t.Errorf("status %d, %q, %q", code, out, stderr)
	}
	for _, source := range []string{n.daemon.Dir, n.cfg.RunDir, n.daemon.Address, filepath.Join(n.cfg.RunDir, "instances"), "/etc"} {
		s.Mounts = []*purserv1.Mount{{Source: &source, Target: new("/data")}}
		if err := n.Create(t.Context(), n.instance("forbidden", s)); err == nil {
			t.Errorf("mounted %s", source)
			n.delete("forbidden")
		}
	}
}
