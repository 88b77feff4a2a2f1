package runtime_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
)

// views counts what images' layers are seen through.
func (n *node) views() int {
	n.t.Helper()
	count := 0
	err := n.client().SnapshotService("overlayfs").Walk(n.t.Context(), func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindView {
			count++
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return count
}

// Containers of an image share its layers and nothing else.
func TestWritableLayers(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		write := spec("sh", "-c", `echo mine >/file; rm /etc/group; stat -c "%a %u" /; sleep 1000`)
		n.start("a", write)
		n.await("a", "755 0")
		n.wantSnapshots(0)
		if n.views() != 1 {
			t.Errorf("%d views of one image", n.views())
		}
		if code, out, stderr := n.run("b", spec("sh", "-c", "test -s /etc/group && ls /file")); code == 0 || !strings.Contains(stderr, "/file") {
			t.Errorf("another container sees it: status %d, %q, %q", code, out, stderr)
		}
		if _, err := os.Stat(filepath.Join(n.cfg.RootDir, "a", "upper", "file")); err != nil {
			t.Error(err)
		}
		n.delete("a")
		n.wantNothing()
		// Nothing but the image holds the view now, and a collection leaves it.
		n.importTar(rig.Archive(t, rig.Busybox(t, rig.Image{Ref: "other:1", Files: map[string]string{"other": "x"}})), runtime.ImportOptions{})
		if err := n.removeImage("other:1"); err != nil {
			t.Fatal(err)
		}
		if left := n.views(); left != 1 {
			t.Errorf("%d views after a collection", left)
		}
	})
}

// The view lives as long as the image, or a container made from it.
func TestViewGoesWithItsImage(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("a", spec("sh", "-c", "read x; ls /bin"))
		if err := n.removeImage(rig.BusyboxRef); err != nil {
			t.Fatal(err)
		}
		if n.views() != 1 {
			t.Error("the view is gone while a container needs it")
		}
		n.delete("a")
		// The next collection takes it.
		n.importTar(rig.Archive(t, rig.Busybox(t, rig.Image{Ref: "other:1", Files: map[string]string{"other": "x"}})), runtime.ImportOptions{})
		if err := n.removeImage("other:1"); err != nil {
			t.Fatal(err)
		}
		if left := n.views(); left != 0 {
			t.Errorf("%d views of images that are gone", left)
		}
	})
}

// Without a directory for them, containerd keeps the writable layers.
func TestSnapshotForEachContainer(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.Close()
		n.cfg.RootDir = ""
		n.open()
		n.start("a", spec("sleep", "1000"))
		n.wantSnapshots(1)
		// An agent that has such a directory removes what an earlier one made.
		n.Close()
		n.cfg.RootDir = filepath.Join(n.daemon.Dir, "rootfs")
		n.open()
		n.delete("a")
		n.wantSnapshots(0)
	})
}

// A place that cannot hold writable layers is found out before a launch.
func TestNoPlaceForWritableLayers(t *testing.T) {
	n := newNode(t, rig.V24)
	n.Close()
	// The kernel takes no overlay as the upper layer of another.
	n.cfg.RootDir = filepath.Join(overlay(t, n.daemon.Dir), "rootfs")
	n.open()
	if code, out, _ := n.run("a", spec("echo", "there")); code != 0 || out != "there\n" {
		t.Errorf("status %d, %q", code, out)
	}
	if left, err := os.ReadDir(n.cfg.RootDir); err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	n.wantSnapshots(0)
}

// Layers that vanished since the image was looked at are unpacked again.
func TestLayersAreUnpackedAgain(t *testing.T) {
	n := newNode(t, rig.V24)
	in := n.instance("a", spec("echo", "there"))
	if err := n.removeImage(rig.BusyboxRef); err != nil {
		t.Fatal(err)
	}
	n.importTar(rig.Archive(t, rig.Busybox(t, rig.Image{})), runtime.ImportOptions{})
	if err := n.Create(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	n.delete("a")
	n.wantNothing()
}

// overlay mounts an empty one for the time of a test.
func overlay(t *testing.T, dir string) string {
	t.Helper()
	at := func(name string) string {
		path := filepath.Join(dir, "overlay", name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	m := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + at("lower"), "upperdir=" + at("upper"), "workdir=" + at("work"),
	}}
	merged := at("merged")
	if err := m.Mount(merged); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mount.UnmountAll(merged, 0); err != nil {
			t.Error(err)
		}
	})
	return merged
}
