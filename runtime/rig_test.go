package runtime_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"go.uber.org/goleak"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/loghelper"
	"github.com/purserd/purser/runtime/logs"
	"github.com/purserd/purser/runtime/private"
)

// TestMain is the log helper's process, too, which the runtime starts.
func TestMain(m *testing.M) {
	loghelper.Main()
	rig.OwnNetwork()
	// The race detector has every process sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// node is a runtime on a containerd of its own, with the busybox image.
type node struct {
	*runtime.Runtime
	t      testing.TB
	daemon *rig.Daemon
	cfg    runtime.Config
}

// eachVersion runs a test on both containerds, one after the other, as what a sweep finds of
// a container it leaves to the shim of another one of that name. It may run beside tests
// whose containers are named otherwise.
func eachVersion(t *testing.T, test func(*testing.T, *node)) {
	t.Parallel()
	forEachVersion(t, test)
}

// forEachVersion is for tests that need something of which the machine has one.
func forEachVersion(t *testing.T, test func(*testing.T, *node)) {
	for _, v := range rig.Versions {
		t.Run(string(v), func(t *testing.T) { test(t, newNode(t, v)) })
	}
}

func newNode(t testing.TB, v rig.Version) *node {
	t.Helper()
	n := newNodeOn(t, rig.Containerd(t, v), "")
	n.importTar(rig.Archive(t, rig.Busybox(t, rig.Image{})), runtime.ImportOptions{})
	return n
}

// newNodeWith makes a node with other OCI runtimes than runc, the first of which is the
// default.
func newNodeWith(t testing.TB, v rig.Version, runtimes ...string) *node {
	t.Helper()
	n := newNode(t, v)
	n.Close()
	n.cfg.Runtimes, n.cfg.DefaultRuntime = map[string]runtime.RuntimeConfig{}, runtimes[0]
	for _, name := range runtimes {
		n.cfg.Runtimes[name] = runtime.RuntimeConfig{Path: rig.Runtime(t, name)}
	}
	n.open()
	return n
}

// newNodeOn makes a runtime on a containerd, without an image.
func newNodeOn(t testing.TB, d *rig.Daemon, snapshotter string) *node {
	t.Helper()
	n := &node{t: t, daemon: d, cfg: runtime.Config{
		Snapshotter:  snapshotter,
		Address:      d.Address,
		Namespace:    "purser",
		Node:         "test",
		RunDir:       filepath.Join(d.Dir, "run"),
		RootDir:      filepath.Join(d.Dir, "rootfs"),
		LogDir:       filepath.Join(d.Dir, "logs"),
		Wrapper:      rig.Wrapper(t),
		CgroupParent: d.CgroupParent,
		Logger:       slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	n.open()
	t.Cleanup(func() {
		n.Close()
		d.AwaitEnd()
		if err := private.Unmount(filepath.Join(n.cfg.RunDir, "private")); err != nil {
			t.Error(err)
		}
	})
	return n
}

// open makes a new Runtime, as an agent does that was restarted. The test ends
// the last one.
func (n *node) open() {
	n.t.Helper()
	r, err := runtime.New(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Runtime = r
}

// client is a plain one, to look at what is in containerd.
func (n *node) client() *client.Client {
	n.t.Helper()
	c, err := client.New(n.daemon.Address, client.WithDefaultNamespace(n.cfg.Namespace))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}

// known is for output that the log helper has not forgotten.
func (n *node) known() (runtime.Instance, error) {
	n.t.Error("the log helper has forgotten a container")
	return runtime.Instance{}, errors.New("not known")
}

func (n *node) importTar(tar io.Reader, o runtime.ImportOptions) []runtime.Image {
	n.t.Helper()
	images, err := n.ImportImages(n.t.Context(), tar, o)
	if err != nil {
		n.t.Fatal(err)
	}
	return images
}

// removeImage removes an image with all that nothing else needs.
func (n *node) removeImage(ref string) error {
	if _, err := n.RemoveImage(n.t.Context(), ref, func(func(string) bool) error { return nil }); err != nil {
		return err
	}
	return n.CollectGarbage(n.t.Context())
}

// environ is public but for the variables whose names start with SECRET.
type environ []string

func (e environ) Public() []string { return e.which(false) }
func (e environ) Secret() []string { return e.which(true) }

func (e environ) HasSecret() bool { return len(e.Secret()) > 0 }

func (e environ) which(secret bool) []string {
	return slices.DeleteFunc(slices.Clone(e), func(v string) bool { return strings.HasPrefix(v, "SECRET") != secret })
}

// spec of a container of busybox that runs a command.
func spec(command ...string) *purserv1.LaunchSpec {
	app, function, ref := "app", "function", "busybox:test"
	return &purserv1.LaunchSpec{
		App: &app, Function: &function,
		Image:   &purserv1.Image{Ref: &ref},
		Command: command,
	}
}

func (n *node) instance(id string, s *purserv1.LaunchSpec) runtime.Instance {
	n.t.Helper()
	img, err := n.Image(n.t.Context(), s.GetImage().GetRef())
	if err != nil {
		n.t.Fatal(err)
	}
	return runtime.Instance{
		ID: id, Spec: s, Image: img,
		Env:    environ(append(img.Config.Env, "GREETING=hello")),
		Record: &statev1.Workload{Environment: "dev", Id: "app/function", Spec: s},
	}
}

// start creates and starts a container, which is deleted with the test.
func (n *node) start(id string, s *purserv1.LaunchSpec) {
	n.t.Helper()
	in := n.instance(id, s)
	if err := n.Create(n.t.Context(), in); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { n.delete(id) })
	pid, err := n.Start(n.t.Context(), id)
	if err != nil {
		n.t.Fatal(err)
	}
	if pid == 0 {
		n.t.Error("started with process ID 0")
	}
}

func (n *node) delete(id string) {
	n.t.Helper()
	if err := n.Delete(context.Background(), id); err != nil {
		n.t.Errorf("deleting: %v", err)
	}
}

func (n *node) wait(id string) runtime.Exit {
	n.t.Helper()
	exit, err := n.Wait(n.t.Context(), id)
	if err != nil {
		n.t.Fatal(err)
	}
	return exit
}

// run runs a container to its end and returns its exit status and output.
func (n *node) run(id string, s *purserv1.LaunchSpec) (code uint32, stdout, stderr string) {
	n.t.Helper()
	n.start(id, s)
	code = n.wait(id).Code
	n.delete(id)
	stdout, stderr = n.output(id)
	return code, stdout, stderr
}

// output returns what there is in the log, following it to its end.
func (n *node) output(id string) (stdout, stderr string) {
	n.t.Helper()
	var out, err strings.Builder
	for e, readErr := range n.Logs().Read(n.t.Context(), id, logs.ReadOptions{Tail: -1, Follow: true}) {
		if readErr != nil {
			n.t.Fatal(readErr)
		}
		if e.Stream == logs.Stderr {
			err.Write(e.Data)
		} else {
			out.Write(e.Data)
		}
	}
	return out.String(), err.String()
}

// await follows a container's log until it contains a text.
func (n *node) await(id, text string) {
	n.t.Helper()
	var all strings.Builder
	for e, err := range n.Logs().Read(n.t.Context(), id, logs.ReadOptions{Tail: -1, Follow: true}) {
		if err != nil {
			n.t.Fatal(err)
		}
		all.Write(e.Data)
		if strings.Contains(all.String(), text) {
			return
		}
	}
	n.t.Fatalf("%s ended without writing %q; it wrote %q", id, text, all.String())
}

func countActive(n *int) snapshots.WalkFunc {
	return func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindActive {
			*n++
		}
		return nil
	}
}
