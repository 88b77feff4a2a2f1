package netns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// where is the namespace of the calling thread.
func where(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink(netns.Own)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func pinned(t *testing.T, prepare func() error) string {
	t.Helper()
	rig.Root(t)
	path := filepath.Join(t.TempDir(), "netns")
	if err := netns.Pin(path, prepare); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Unpin(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func nothing() error { return nil }

// What is done is done in the namespace, and the next is done in the process's own again.
func TestDo(t *testing.T) {
	var prepared string
	path := pinned(t, func() error { prepared = where(t); return nil })
	own := where(t)
	var there string
	if err := netns.Do(path, func() error { there = where(t); return nil }); err != nil {
		t.Fatal(err)
	}
	if there == own || there != prepared {
		t.Errorf("it was done in %s, of one prepared as %s, not in our own %s", there, prepared, own)
	}
	want := errors.New("failed")
	if err := netns.Do(path, func() error { return want }); err != want {
		t.Errorf("got %v", err)
	}
	if after := where(t); after != own {
		t.Errorf("in %s, was in %s", after, own)
	}
	if err := netns.Do(path+"-none", nothing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := netns.Do(os.Args[0], nothing); !errors.Is(err, unix.EINVAL) {
		t.Errorf("in what is no namespace: %v", err)
	}
}

// A new one has nothing but loopback, and is nobody's afterwards.
func TestDoInNew(t *testing.T) {
	rig.Root(t)
	own := where(t)
	err := netns.DoInNew(func() error {
		links, err := net.Interfaces()
		if err == nil && (len(links) != 1 || where(t) == own) {
			t.Errorf("in %s, with %v", where(t), links)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The process's first thread stays where it is, whichever goroutines it has run: its
// namespace is taken for the process's.
func TestFirstThreadStays(t *testing.T) {
	path := pinned(t, nothing)
	var all sync.WaitGroup
	for range 2000 {
		all.Go(func() {
			err := netns.Do(path, func() error {
				if unix.Gettid() == os.Getpid() {
					return errors.New("the first thread is in it")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A thread that cannot come back is nobody's any more.
func TestThreadThatCannotComeBackEnds(t *testing.T) {
	path := pinned(t, nothing)
	var tid int
	err := netns.Do(path, func() error {
		tid = unix.Gettid()
		// Of this thread alone.
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		return unix.Capset(&header, &none[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
		return errors.Is(err, os.ErrNotExist)
	}
	if !rig.ComesTrue(5*time.Second, ended) {
		t.Error("it lives")
	}
}

func TestPin(t *testing.T) {
	path := pinned(t, nothing)
	if !netns.Pinned(path) || netns.Inhabited(path) {
		t.Errorf("pinned: %v, inhabited: %v", netns.Pinned(path), netns.Inhabited(path))
	}
	if !netns.Inhabited("/proc/self/ns/net") {
		t.Error("nobody is in our own")
	}
	for range 2 { // once is enough
		if err := netns.Unpin(path); err != nil {
			t.Error(err)
		}
	}
	if netns.Pinned(path) || netns.Inhabited(path) {
		t.Error("it is mounted")
	}
	want := errors.New("failed")
	if err := netns.Pin(path, func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("one that could not be prepared has left its file")
	}
}
