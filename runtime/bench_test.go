package runtime_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/purserd/purser/e2e/rig"
)

// BenchmarkLaunch compares create and start with what a containerd client does
// as it is usually written: same containerd, image and command, in turns, so
// that what else the machine does hits both. It reports medians.
func BenchmarkLaunch(b *testing.B) {
	for _, v := range rig.Versions {
		b.Run(string(v), func(b *testing.B) {
			n := newNode(b, v)
			plain := newPlainClient(b, n)
			var ours, theirs []time.Duration
			for i := 0; b.Loop(); i++ {
				theirs = append(theirs, plain.launch(b, fmt.Sprintf("plain%d", i)))
				ours = append(ours, n.launch(b, fmt.Sprintf("ours%d", i)))
			}
			b.ReportMetric(median(ours), "purser-ms")
			b.ReportMetric(median(theirs), "plain-ms")
			b.ReportMetric(median(ours)/median(theirs), "ratio")
		})
	}
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return all[len(all)/2].Seconds() * 1000
}

func (n *node) launch(b *testing.B, id string) time.Duration {
	ctx := context.Background()
	begin := time.Now()
	if err := n.Create(ctx, n.instance(id, spec("true"))); err != nil {
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
}

func newPlainClient(b *testing.B, n *node) plainClient {
	c, err := client.New(n.daemon.Address, client.WithDefaultNamespace(n.cfg.Namespace))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	img, err := c.GetImage(namespaced(n), rig.BusyboxRef)
	if err != nil {
		b.Fatal(err)
	}
	return plainClient{client: c, image: img, parent: n.cfg.CgroupParent}
}

func namespaced(n *node) context.Context {
	return namespaces.WithNamespace(context.Background(), n.cfg.Namespace)
}

func (p plainClient) launch(b *testing.B, id string) time.Duration {
	ctx := namespaces.WithNamespace(context.Background(), p.client.DefaultNamespace())
	begin := time.Now()
	c, err := p.client.NewContainer(ctx, id,
		client.WithNewSnapshot(id, p.image),
		client.WithNewSpec(oci.WithImageConfig(p.image), oci.WithProcessArgs("true"), oci.WithCgroup(p.parent+"/"+id)))
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
