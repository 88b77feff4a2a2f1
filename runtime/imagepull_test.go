package runtime_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"google.golang.org/grpc"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/registry"
)

// TestPull brings an image with several layers, and tells of each.
func TestPull(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		r := rig.StartRegistry(t, rig.RegistryOptions{})
		r.Push("app:1", rig.Image{Layers: []map[string]string{{"one": "1"}, {"two": "2"}}})
		var mu sync.Mutex
		last := map[string]runtime.Layer{}
		image, err := n.Pull(t.Context(), r.Addr+"/app:1", runtime.PullOptions{Progress: func(l runtime.Layer) {
			mu.Lock()
			defer mu.Unlock()
			last[l.Digest] = l
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range last {
			if l.Offset != l.Total || l.Total == 0 || l.State == runtime.LayerWaiting {
				t.Errorf("the last that was told of a layer is %+v", l)
			}
		}
		if len(last) != 3 || image.Ref != r.Addr+"/app:1" || image.Size == 0 {
			t.Errorf("%d layers, %+v", len(last), image)
		}
		s := spec("cat", "/one", "/two")
		s.Image.Ref = &image.Ref
		if code, out, _ := n.run("pulled", s); code != 0 || out != "12" {
			t.Errorf("status %d, %q", code, out)
		}
		all, err := n.ListImages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			if i.Pulled != (i.Ref == image.Ref) || i.Updated.IsZero() {
				t.Errorf("%+v", i)
			}
		}
		if disk, err := n.ImageDisk(t.Context()); err != nil || !strings.HasPrefix(disk.Path, n.daemon.Dir) || disk.Used < 1 || disk.Used > 100 {
			t.Errorf("%+v, %v", disk, err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.Pull(cancelled, r.Addr+"/app:1", runtime.PullOptions{}); err == nil {
			t.Error("a pull that was called off succeeded")
		}
		if err := n.removeImage(image.Ref); err != nil {
			t.Error(err)
		}
	})
}

// stalling is the way to a registry on which large blobs stop half way.
func stalling(t *testing.T, r *rig.Registry, half int64) (addr string, goOn func()) {
	t.Helper()
	var stall atomic.Bool
	stall.Store(true)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.Addr})
	proxy.FlushInterval = -1
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(a *http.Response) error {
		if stall.Load() && a.Request.Method == http.MethodGet && a.ContentLength > half {
			gone := a.Request.Context().Done()
			a.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(a.Body, half), endless(gone)), a.Body}
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), func() { stall.Store(false) }
}

// endless has nothing to be read until it is closed.
type endless <-chan struct{}

func (e endless) Read([]byte) (int, error) {
	<-e
	return 0, io.ErrUnexpectedEOF
}

// A registry that stalls is given up, and what came from it is kept.
func TestPullFromSilentRegistry(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		r := rig.StartRegistry(t, rig.RegistryOptions{})
		noise := make([]byte, 2<<20)
		_, _ = rand.Read(noise)
		r.Push("app:1", rig.Image{Layers: []map[string]string{{"big": string(noise)}}})
		addr, goOn := stalling(t, r, 1<<20)
		n.Close()
		n.cfg.Registry.Patience = registry.Patience{More: time.Second}
		n.open()
		var failed *runtime.PullError
		_, err := n.Pull(t.Context(), addr+"/app:1", runtime.PullOptions{})
		if !errors.As(err, &failed) || failed.Reason != registry.TimedOut || err.Error() != "timed out: image "+addr+"/app:1: "+addr+" has sent nothing more for 1s" {
			t.Fatal(err)
		}
		goOn()
		var first atomic.Int64
		_, err = n.Pull(t.Context(), addr+"/app:1", runtime.PullOptions{Progress: func(l runtime.Layer) {
			if l.State == runtime.LayerDownloading && l.Total > 1<<20 {
				first.CompareAndSwap(0, l.Offset)
			}
		}})
		if err != nil || first.Load() < 1<<20 {
			t.Errorf("%v; it went on from %d", err, first.Load())
		}
	})
}

// recorder is a snapshotter in a process of its own, as far as containerd can tell,
// which notes the labels of what it is to prepare.
type recorder struct {
	snapshots.Snapshotter
	mu     sync.Mutex
	labels []map[string]string
}

func (r *recorder) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	var info snapshots.Info
	for _, o := range opts {
		if err := o(&info); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	r.labels = append(r.labels, maps.Clone(info.Labels))
	r.mu.Unlock()
	return r.Snapshotter.Prepare(ctx, key, parent, opts...)
}

// remoteSnapshotter serves a snapshotter at dir/remote.sock.
func remoteSnapshotter(t *testing.T, dir string) *recorder {
	t.Helper()
	sn, err := native.NewSnapshotter(filepath.Join(dir, "remote"))
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Snapshotter: sn}
	l, err := net.Listen("unix", filepath.Join(dir, "remote.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(r))
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
		sn.Close()
	})
	return r
}

// A snapshotter that is none of containerd's own is told what each layer is of.
func TestPullForRemoteSnapshotter(t *testing.T) {
	for _, v := range rig.Versions {
		t.Run(string(v), func(t *testing.T) {
			var remote *recorder
			d := rig.ContainerdWith(t, v, func(d *rig.Daemon) string {
				remote = remoteSnapshotter(t, d.Dir)
				return fmt.Sprintf("[proxy_plugins.remote]\n  type = \"snapshot\"\n  address = %q\n", filepath.Join(d.Dir, "remote.sock"))
			})
			n := newNodeOn(t, d, "remote")
			r := rig.StartRegistry(t, rig.RegistryOptions{})
			r.Push("app:1", rig.Image{Layers: []map[string]string{{"one": "1"}}})
			image, err := n.Pull(t.Context(), r.Addr+"/app:1", runtime.PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			s := spec("cat", "/one")
			s.Image.Ref = &image.Ref
			if code, out, stderr := n.run("remote", s); code != 0 || out != "1" {
				t.Errorf("status %d, %q, %q", code, out, stderr)
			}
			layers := slices.DeleteFunc(remote.labels, func(l map[string]string) bool { return l["containerd.io/snapshot.ref"] == "" })
			if len(layers) != 2 {
				t.Fatalf("labels %v", remote.labels)
			}
			for _, l := range layers {
				if l["containerd.io/snapshot/cri.image-ref"] != image.Ref || !strings.HasPrefix(l["containerd.io/snapshot/cri.layer-digest"], "sha256:") ||
					l["containerd.io/snapshot/cri.manifest-digest"] != image.Digest || l["containerd.io/snapshot/cri.image-layers"] == "" {
					t.Errorf("labels %v", l)
				}
			}
		})
	}
}
