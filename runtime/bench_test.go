package runtime_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/cni"
	"github.com/purserd/purser/runtime/private"
)

// BenchmarkLaunch compares create and start, with a shim for each container and with a
// shared one, with what a containerd client does as it is usually written: same
// containerd, OCI runtime, image and command, in turns, so that what else the machine
// does hits all. It reports medians.
func BenchmarkLaunch(b *testing.B) {
	for _, on := range combinations {
		b.Run(on.String(), func(b *testing.B) {
			n := on.node(b, false)
			shared := n.beside(b)
			shared.start("kept", spec("sleep", "100000"))
			plain := newPlainClient(b, n, on.runtime)
			var own, sharing, theirs []time.Duration
			for i := 0; b.Loop(); i++ {
				theirs = append(theirs, plain.launch(b, fmt.Sprintf("plain%d", i)))
				own = append(own, n.launch(b, fmt.Sprintf("own%d", i)))
				sharing = append(sharing, shared.launch(b, fmt.Sprintf("shared%d", i)))
			}
			b.ReportMetric(median(own), "own-ms")
			b.ReportMetric(median(sharing), "shared-ms")
			b.ReportMetric(median(theirs), "plain-ms")
		})
	}
}

// beside is another node on the same containerd, which shares shims.
func (n *node) beside(b *testing.B) *node {
	b.Helper()
	m := &node{t: b, daemon: n.daemon, cfg: n.cfg}
	m.cfg.Node, m.cfg.ShareShims = "sharing", true
	for _, dir := range []*string{&m.cfg.RunDir, &m.cfg.RootDir, &m.cfg.LogDir} {
		*dir += "-sharing"
	}
	m.open()
	b.Cleanup(func() {
		m.Close()
		if err := private.Unmount(filepath.Join(m.cfg.RunDir, "private")); err != nil {
			b.Error(err)
		}
	})
	return m
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return all[len(all)/2].Seconds() * 1000
}

func (n *node) launch(b *testing.B, id string) time.Duration {
	return n.launchOf(b, id, spec("true"))
}

// BenchmarkBridge compares launches on the container network, with a network namespace
// that is ready, with launches with loopback alone, in turns. It reports medians.
func BenchmarkBridge(b *testing.B) {
	n := newNode(b, rig.V24)
	n.withBridge(func(c *cni.Config) { c.Pool = 4 })
	if err := n.CheckBridge(); err != nil {
		b.Fatal(err)
	}
	var alone, bridged []time.Duration
	for i := 0; b.Loop(); i++ {
		if !rig.ComesTrue(10*time.Second, func() bool { return n.NetworksReady() == 4 }) {
			b.Fatal("none is ready")
		}
		bridged = append(bridged, n.launchOf(b, fmt.Sprintf("bridged%d", i), onBridge("true")))
		alone = append(alone, n.launch(b, fmt.Sprintf("alone%d", i)))
	}
	b.ReportMetric(median(alone), "none-ms")
	b.ReportMetric(median(bridged), "bridge-ms")
}

func (n *node) launchOf(b *testing.B, id string, s *purserv1.LaunchSpec) time.Duration {
	ctx := context.Background()
	begin := time.Now()
	if err := n.Create(ctx, n.instance(id, s)); err != nil {
		b.Fatal(err)
	}
	if _, err := n.Start(ctx, id); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	n.wait(id)
	n.delete(id)
	return took
}

type plainClient struct {
	client *client.Client
	image  client.Image
	parent string
	binary string // of the OCI runtime
}

func newPlainClient(b *testing.B, n *node, runtime string) plainClient {
	c := n.client()
	img, err := c.GetImage(namespaced(n), rig.BusyboxRef)
	if err != nil {
		b.Fatal(err)
	}
	return plainClient{client: c, image: img, parent: n.cfg.CgroupParent, binary: n.cfg.Runtimes[runtime].Path}
}

func namespaced(n *node) context.Context {
	return namespaces.WithNamespace(context.Background(), n.cfg.Namespace)
}

// knownVersion is one that crun 1.8 knows.
func knownVersion(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
	s.Version = "1.0.2"
	return nil
}

func (p plainClient) launch(b *testing.B, id string) time.Duration {
	ctx := namespaces.WithNamespace(context.Background(), p.client.DefaultNamespace())
	begin := time.Now()
	c, err := p.client.NewContainer(ctx, id,
		client.WithRuntime("io.containerd.runc.v2", &runcoptions.Options{BinaryName: p.binary}),
		client.WithNewSnapshot(id, p.image),
		client.WithNewSpec(oci.WithImageConfig(p.image), oci.WithProcessArgs("true"), knownVersion, oci.WithCgroup(p.parent+"/"+id)))
	if err != nil {
		b.Fatal(err)
	}
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		b.Fatal(err)
	}
	if err := task.Start(ctx); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	exited, err := task.Wait(ctx)
	if err != nil {
		b.Fatal(err)
	}
	<-exited
	if _, err := task.Delete(ctx); err != nil {
		b.Fatal(err)
	}
	if err := c.Delete(ctx, client.WithSnapshotCleanup); err != nil {
		b.Fatal(err)
	}
	return took
}
