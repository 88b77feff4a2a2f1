package private_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/private"
)

func TestMount(t *testing.T) {
	rig.Root(t)
	for name, o := range map[string]private.Options{"tmpfs": {}, "ramfs": {Ramfs: true}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "private")
			t.Cleanup(func() {
				if err := private.Unmount(dir); err != nil {
					t.Error(err)
				}
			})
			for range 2 { // the second time it is found
				if err := private.Mount(dir, o); err != nil {
					t.Fatal(err)
				}
			}
			if name == "ramfs" && kind(t, dir) != unix.RAMFS_MAGIC {
				t.Error("not ramfs")
			}
			info, err := os.Stat(dir)
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			file := filepath.Join(dir, "file")
			if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := private.Unmount(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("it was written to the disk below")
			}
		})
	}
}

func kind(t *testing.T, dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Type
}

// What is mounted already may be swapped.
func TestOtherMountIsRefused(t *testing.T) {
	rig.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("other", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if err := private.Mount(dir, private.Options{}); err == nil || !strings.Contains(err.Error(), "may reach a disk") {
		t.Errorf("%v", err)
	}
}

// In a mount namespace of its own an agent's mount is nobody else's.
func TestOwnNamespaceIsRefused(t *testing.T) {
	rig.Root(t)
	if dir := os.Getenv("PRIVATE_TEST_DIR"); dir != "" {
		if err := private.Mount(dir, private.Options{}); err == nil || !strings.Contains(err.Error(), "machine's mount namespace") {
			t.Errorf("%v", err)
		}
		return
	}
	t.Run("beside the machine's", ownBesideTheMachines)
	cmd := exec.Command("unshare", "--mount", os.Args[0], "-test.run=^TestOwnNamespaceIsRefused$")
	cmd.Env = append(os.Environ(), "PRIVATE_TEST_DIR="+filepath.Join(t.TempDir(), "private"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// What is mounted at the same place of the machine is not the agent's.
func ownBesideTheMachines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "private")
	t.Cleanup(func() { _ = private.Unmount(dir) })
	if err := private.Mount(dir, private.Options{}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `umount "$PRIVATE_TEST_DIR" && exec "$0" -test.run='^TestOwnNamespaceIsRefused$'`, os.Args[0])
	cmd.Env = append(os.Environ(), "PRIVATE_TEST_DIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Links in the path change nothing: the mount is made once and found again.
func TestMountBehindALink(t *testing.T) {
	rig.Root(t)
	real := filepath.Join(t.TempDir(), "real")
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(link, "private")
	t.Cleanup(func() { _ = private.Unmount(filepath.Join(real, "private")) })
	for range 2 {
		if err := private.Mount(dir, private.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := private.Unmount(filepath.Join(real, "private")); err != nil {
		t.Fatal(err)
	}
	if kind(t, dir) == unix.TMPFS_MAGIC {
		t.Error("it was mounted twice")
	}
}
