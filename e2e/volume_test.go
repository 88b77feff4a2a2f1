package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/purserd/purser/e2e/rig"
)

// volume is a volume as -o json shows it.
type volume struct {
	Environment, Name, Mode, Size string
	UID, GID                      int
	Users                         []string
	CreatedAt                     string `json:"created_at"`
}

func (n *node) volumes(more ...string) []volume {
	n.t.Helper()
	var answer struct{ Volumes []volume }
	n.json(&answer, append([]string{"volume", "list"}, more...)...)
	return answer.Volumes
}

// onVolume is a spec with a volume at /data.
func onVolume(function, user, mount, script string) string {
	return fmt.Sprintf("app: a\nfunction: %s\nuser: %q\nimage: {ref: %s}\nmounts: [{type: volume, source: data, target: /data%s}]\nstop: {grace: 0s}\ncommand: [sh, -c, %q]\n", function, user, image, mount, script)
}

// What is written to a volume outlasts the container, the agent and the node, is
// seen by all that mount it, and goes only when nothing uses it.
func TestVolumes(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("volume", "create", "data", "--user", "1000:2000", "--mode", "0770")
		if got := n.must("volume", "create", "data"); !strings.Contains(got, "there already, owned by 1000:2000, mode 0770") {
			t.Errorf("made again: %s", got)
		}
		if got := n.refused("volume", "create", "data", "--user", "0"); !strings.Contains(got, "already, owned by 1000:2000 with mode 0770") {
			t.Errorf("made again with another owner: %s", got)
		}
		writer := onVolume("writer", "1000:2000", "", "echo start >> /data/starts; id -u > /data/user; exec sleep 100000")
		n.deploy(writer, "--wait")
		n.deploy(onVolume("reader", "1000:2000", ", read_only: true", "exec sleep 100000"), "--wait")
		starts := func(want int) {
			t.Helper()
			n.eventually(fmt.Sprintf("%d starts to be seen", want), func() bool {
				return strings.Count(n.must("exec", "a/reader", "--", "cat", "/data/starts"), "start\n") == want
			})
		}
		starts(1)
		if r := n.run("exec", "a/reader", "--", "touch", "/data/x"); r.code == 0 || !strings.Contains(r.stderr, "Read-only") {
			t.Errorf("writing where it is read-only: %+v", r)
		}
		n.must("restart", "a/writer")
		starts(2)
		agent := n.pidOf(t, "purser agent")
		syscall.Kill(agent, syscall.SIGKILL)
		n.eventually("a new agent", func() bool { return !alive(agent) && n.serves() })
		n.must("restart", "a/writer")
		starts(3)
		n.stop()
		n.start()
		n.await("a/reader", "running", inState("running"))
		starts(4)

		got := n.volumes()
		if len(got) != 1 || !slices.Equal(got[0].Users, []string{"a/reader", "a/writer"}) || got[0].CreatedAt == "" || got[0].Mode != "0770" {
			t.Errorf("listed: %+v", got)
		}
		n.refusedVolume("a/reader, a/writer")
		n.must("rm", "a/reader")
		n.must("stop", "a/writer")
		n.refusedVolume("a/writer")
		n.must("rm", "a/writer")
		n.must("volume", "rm", "data") // at once
		if got := n.volumes("-A"); len(got) > 0 {
			t.Errorf("removed, and listed: %+v", got)
		}
		if left, _ := os.ReadDir(filepath.Join(n.dir, "state", "volumes")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		events := n.must("events")
		for _, want := range []string{"VolumeRemoved", "dev volume data"} {
			if !strings.Contains(events, want) {
				t.Errorf("no %s among the events", want)
			}
		}
	})
}

func (n *node) refusedVolume(users string) {
	n.t.Helper()
	if got := n.refused("volume", "rm", "data"); !strings.Contains(got, "is used by "+users+": remove what uses it first") {
		n.t.Errorf("removing it: %s", got)
	}
}

// The container of an earlier spec still uses the volume that the new one does not.
func TestVolumeOfAnEarlierSpec(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.must("volume", "create", "data")
	stubborn := func(mounts string) string {
		return "app: a\nfunction: f\nimage: {ref: " + image + "}\nmounts: [" + mounts + "]\nrotation: {strategy: restart, min_ready: 3s}\nstop: {grace: 100s}\ncommand: [sh, -c, 'trap : TERM; while :; do sleep 0.1; done']\n"
	}
	n.deploy(stubborn("{type: volume, source: data, target: /data}"), "--wait")
	pid := n.get("a/f").pid()
	n.deploy(stubborn(""))
	n.await("a/f", "stopping", inState("stopping"))
	n.refusedVolume("a/f")
	syscall.Kill(pid, syscall.SIGKILL)
	n.await("a/f", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != pid })
	n.refusedVolume("a/f") // what it would go back to has it
	n.awaitEvents("RolledOut")
	n.must("volume", "rm", "data")
	n.must("rm", "--force", "a/f")
}

// A container that no record explains keeps its volume, also while containerd cannot
// tell of it.
func TestVolumeOfAnUnexplainedContainer(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("volume", "create", "data")
		n.deploy(onVolume("f", "0", "", "echo kept > /data/file; exec sleep 100000"), "--wait")
		forget := n.duplicate(n.containers()[0], func(*containers.Container) {})
		n.must("rm", "--force", "a/f")
		n.refusedVolume("container stranger")
		containerd := n.pidOf(t, "containerd --config")
		syscall.Kill(containerd, syscall.SIGSTOP)
		got := n.refused("volume", "rm", "data")
		syscall.Kill(containerd, syscall.SIGCONT)
		if !strings.Contains(got, "cannot tell whether a container still uses volume data in environment dev while containerd does not answer") {
			t.Errorf("without containerd: %s", got)
		}
		if data, err := os.ReadFile(filepath.Join(n.dir, "state", "volumes", "dev", "data", "file")); string(data) != "kept\n" {
			t.Errorf("%q, %v", data, err)
		}
		n.refusedVolume("container stranger")
		forget()
		n.must("volume", "rm", "data")
	})
}

// A container whose record cannot be read keeps the volumes that it has mounted; all
// of them when that cannot be told either.
func TestVolumeOfAnUnreadableContainer(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("volume", "create", "data")
		n.must("volume", "create", "other")
		n.deploy(onVolume("f", "0", "", "exec sleep 100000"), "--wait")
		row := n.containers()[0]
		forget := n.duplicate(row, func(c *containers.Container) { c.Extensions = nil })
		forgetOther := n.duplicate(row, func(c *containers.Container) {
			c.ID, c.Extensions, c.Spec = "riddle", nil, &anypb.Any{TypeUrl: "unknown"}
		})
		n.must("rm", "--force", "a/f")
		got := n.refused("volume", "rm", "other")
		if !strings.Contains(got, "cannot tell whether container riddle uses volume other in environment dev; remove the container first, with ctr") {
			t.Errorf("under a container without a spec: %s", got)
		}
		forgetOther()
		n.must("volume", "rm", "other")
		n.refusedVolume("container stranger")
		forget()
		n.must("volume", "rm", "data")
	})
}

// duplicate records a container in containerd as another is recorded, with the ID
// "stranger", but for a change.
func (n *node) duplicate(row string, change func(*containers.Container)) (forget func()) {
	n.t.Helper()
	c, err := client.New(filepath.Join(n.dir, "containerd.sock"), client.WithDefaultNamespace("purser"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	all, ctx := c.ContainerService(), n.t.Context()
	id, _, _ := strings.Cut(row, " ")
	record, err := all.Get(ctx, id)
	if err == nil {
		record.ID, record.SnapshotKey = "stranger", ""
		change(&record)
		_, err = all.Create(ctx, record)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return func() {
		if err := all.Delete(ctx, record.ID); err != nil {
			n.t.Error(err)
		}
	}
}

// Names of volumes do not cross environments, and one that is not there is
// refused with what to do.
func TestVolumeNames(t *testing.T) {
	t.Parallel()
	n := emptyNodeWith(t, rig.V24, "allowed_roots = [\"/tmp\"]\n")
	n.must("image", "import", boxImage(t))
	n.must("volume", "create", "data")
	n.must("volume", "create", "-E", "prod", "only-there")
	n.must("run", "--image", image, file(t, "f.yaml", onVolume("f", "0", "", "echo 12345 > /data/x; dd if=/dev/zero of=/data/large bs=1024 count=2000 2>/dev/null")))
	if got := n.volumes(); len(got) != 1 || len(got[0].Size) != len("2048000") {
		t.Errorf("2000 KiB in it, and listed: %+v", got)
	}
	deploy := func(environment, name, type_ string) string {
		return n.refused("deploy", file(t, "app.yaml", "app: a\nenvironment: "+environment+"\nfunction: f\nimage: {ref: "+image+"}\nmounts:\n- {type: "+type_+", source: "+name+", target: /data}\n"))
	}
	for want, got := range map[string]string{
		"mounts[0].source: no volume data in environment prod; to make it: purser volume create -E prod data": deploy("prod", "data", "volume"),
		"no volume only-there in environment dev; to make it":                                                 deploy("dev", "only-there", "volume"),
		"no volume dta in environment dev; did you mean data?":                                                deploy("dev", "dta", "volume"),
		"app.yaml:6:26: mounts[0].source: must be the name of a volume":                                       deploy("dev", "/data", "volume"),
		"app.yaml:6:24: mounts[0].source: must be an absolute path; the name of a volume goes with":           deploy("dev", "data", "bind"),
		"which no container may see":                                                                          deploy("dev", filepath.Join(n.dir, "state/volumes/dev/data"), "bind"),
		"app.yaml:6:10: mounts[0].type: must be":                                                              deploy("dev", "data", "nfs"),
		"NAME: must be 1 to 64 letters":                                                                       n.refused("volume", "create", "../x"),
		"NAME: is required":                                                                                   n.refused("volume", "create", ""),
		"-E \"../x\": the name of an environment is":                                                          n.refused("volume", "create", "-E", "../x", "y"),
		"--mode: must be permissions in octal":                                                                n.refused("volume", "create", "y", "--mode", "rwx"),
		"--user app: must be UID or UID:GID, such as 1000:1000, numbers from 0 to 2147483647":                 n.refused("volume", "create", "y", "--user", "app"),
		"--user 2147483648: must be UID or UID:GID":                                                           n.refused("volume", "create", "y", "--user", "2147483648"),
		"mode 4777: set-user-ID (4000) means nothing on a directory: leave it out, as in 0777":                n.refused("volume", "create", "y", "--mode", "4777"),
		"no volume none in environment dev":                                                                   n.refused("volume", "rm", "none"),
		"no volume only-there in environment dev":                                                             n.refused("volume", "rm", "only-there"),
		"no volume .. in environment dev":                                                                     n.refused("volume", "rm", ".."),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	if got := n.must("ps", "-a", "-A", "-o", "json"); strings.Contains(got, `"id"`) {
		t.Errorf("left: %s", got)
	}
	var all struct {
		Environments []struct {
			Name    string
			Volumes int
		}
	}
	n.json(&all, "environment", "list")
	if got := fmt.Sprint(all.Environments); got != "[{dev 1} {prod 1}]" {
		t.Errorf("environments: %s", got)
	}
	if got := n.must("__complete", "volume", "rm", ""); !strings.HasPrefix(got, "data\n:") {
		t.Errorf("completion: %s", got)
	}
}

// Volumes work with every OCI runtime.
func TestVolumesOnRuntimes(t *testing.T) {
	t.Parallel()
	var config strings.Builder
	for _, r := range []string{"runc", "crun", "runsc"} {
		path := "runc"
		if r != "runc" {
			path = rig.Runtime(t, r)
		}
		fmt.Fprintf(&config, "[runtimes.%s]\npath = %q\n", r, path)
	}
	n := emptyNodeWith(t, rig.V24, config.String())
	n.must("image", "import", boxImage(t))
	n.must("volume", "create", "data", "--user", "1000")
	for _, r := range []string{"runc", "crun", "runsc"} {
		n.must("run", "--runtime", r, file(t, "f.yaml", onVolume("f", "1000", "", "echo "+r+" >> /data/runtimes")))
		got := n.run("run", "--runtime", r, file(t, "f.yaml", onVolume("f", "1000", ", read_only: true", "cat /data/runtimes; touch /data/x")))
		if !strings.HasSuffix(got.stdout, r+"\n") || got.code != 1 {
			t.Errorf("%s: %+v", r, got)
		}
	}
	if got := n.must("run", file(t, "f.yaml", onVolume("f", "1000", "", "cat /data/runtimes; ls /data"))); got != "runc\ncrun\nrunsc\nruntimes\n" {
		t.Errorf("all: %q", got)
	}
}

// A volume that a crash left half removed is no volume, and is destroyed by the
// next agent.
func TestVolumeLeftovers(t *testing.T) {
	t.Parallel()
	n := emptyNode(t, rig.V24)
	n.must("volume", "create", "data")
	n.stop()
	volumes := filepath.Join(n.dir, "state", "volumes")
	for _, dir := range []string{".new-1", ".removed-2/data/deep"} {
		if err := os.MkdirAll(filepath.Join(volumes, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	if got := n.volumes("-A"); len(got) != 1 {
		t.Errorf("listed: %+v", got)
	}
	n.eventually("the leftovers to be destroyed", func() bool {
		left, err := os.ReadDir(volumes)
		return err == nil && len(left) == 1
	})
}
