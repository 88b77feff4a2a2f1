package private_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/private"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, and nothing is skipped in CI")
		}
		t.Skip("SKIPPED: needs root to mount; run the tests as root")
	}
}

func TestMount(t *testing.T) {
	needRoot(t)
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
	needRoot(t)
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
	needRoot(t)
	if dir := os.Getenv("PRIVATE_TEST_DIR"); dir != "" {
		if err := private.Mount(dir, private.Options{}); err == nil || !strings.Contains(err.Error(), "machine's mount namespace") {
			t.Errorf("%v", err)
		}
		return
	}
	cmd := exec.Command("unshare", "--mount", os.Args[0], "-test.run=^TestOwnNamespaceIsRefused$")
	cmd.Env = append(os.Environ(), "PRIVATE_TEST_DIR="+filepath.Join(t.TempDir(), "private"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
