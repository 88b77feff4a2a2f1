package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
	"github.com/purserd/purser/e2e/rig"
)

const image = "localhost/bench:1"

// node is a `purser dev`, and the plain client of its containerd.
type node struct {
	dir     string
	dev     *exec.Cmd
	host    string
	ctr     string
	version string
	api     *client.Client
	plain   *containerd.Client
	count   atomic.Int64
}

// startNode starts a node whose containers share shims, or not, as the configuration
// calls it, with more settings of its agent's.
func startNode(ctx context.Context, path, sharing, settings string) (*node, error) {
	dir, err := os.MkdirTemp("/tmp", "purser-bench-")
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir, ctr: filepath.Join(filepath.Dir(path), "ctr")}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "[containerd]\nshim_sharing = %q\n[network]\ndefault_mode = \"none\"\n%s", sharing, settings), 0o600); err != nil {
		return nil, err
	}
	n.dev = exec.Command(binary(), "dev", "--dir", filepath.Join(dir, "n"), "--containerd", path, "--config", config)
	n.dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	n.dev.Stderr = os.Stderr
	out, err := n.dev.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.dev.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for n.host == "" && lines.Scan() {
		n.host, _ = strings.CutPrefix(lines.Text(), "ready: export PURSER_HOST=")
	}
	if n.host == "" {
		n.stop()
		return nil, fmt.Errorf("purser dev does not serve")
	}
	go func() {
		for lines.Scan() {
		}
	}()
	if err := n.prepare(ctx); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

func binary() string {
	if path := os.Getenv("PURSER_BIN"); path != "" {
		return path
	}
	return "bin/purser"
}

// prepare imports the image and connects both clients.
func (n *node) prepare(ctx context.Context) error {
	layout := filepath.Join(n.dir, "image")
	if err := rig.WriteLayout(layout, rig.Image{Ref: image}); err != nil {
		return err
	}
	if out, err := n.purser("image", "import", layout).CombinedOutput(); err != nil {
		return fmt.Errorf("importing the image: %w: %s", err, out)
	}
	var err error
	if n.api, err = client.New(n.host); err != nil {
		return err
	}
	if n.plain, err = containerd.New(n.socket(), containerd.WithDefaultNamespace("purser")); err != nil {
		return err
	}
	v, err := n.plain.Version(ctx)
	if err != nil {
		return err
	}
	n.version = v.Version
	// Not the first of its app is measured, nor the last.
	_, err = n.launch(ctx, "kept")
	return err
}

// socket is containerd's.
func (n *node) socket() string { return filepath.Join(n.dir, "n", "containerd.sock") }

func (n *node) stop() {
	if n.api != nil {
		n.api.Close()
	}
	if n.plain != nil {
		n.plain.Close()
	}
	n.dev.Process.Signal(syscall.SIGTERM)
	n.dev.Wait()
	os.RemoveAll(n.dir)
}

func (n *node) purser(args ...string) *exec.Cmd {
	cmd := exec.Command(binary(), args...)
	cmd.Env = append(os.Environ(), "PURSER_HOST="+n.host)
	return cmd
}

func (n *node) purserRun(context.Context) (time.Duration, error) {
	return timed(n.purser("run", "--image", image, "--", "true"))
}

func (n *node) ctrRun(context.Context) (time.Duration, error) {
	return timed(exec.Command(n.ctr, "--address", n.socket(), "--namespace", "purser",
		"run", "--rm", image, fmt.Sprintf("ctr%d", n.count.Add(1)), "true"))
}

func timed(cmd *exec.Cmd) (time.Duration, error) {
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return time.Since(began), nil
}

// apiLaunch measures from the request to the answer that the container runs.
func (n *node) apiLaunch(ctx context.Context) (took time.Duration, remove func() error, err error) {
	function := fmt.Sprintf("f%d", n.count.Add(1))
	took, err = n.launch(ctx, function)
	return took, func() error {
		_, err := n.api.Workloads.Remove(ctx, connect.NewRequest(&purserv1.RemoveRequest{Id: app + "/" + function, Force: true}))
		return err
	}, err
}

// app is of which all are instances that are launched by API.
const app = "bench"

func (n *node) launch(ctx context.Context, function string) (time.Duration, error) {
	spec := &purserv1.LaunchSpec{
		App: proto.String(app), Function: &function,
		Image:   &purserv1.Image{Ref: proto.String(image)},
		Command: []string{"sleep", "1000000"},
		Stop:    &purserv1.Stop{Grace: proto.String("0s")},
	}
	began := time.Now()
	if _, err := n.api.Workloads.Launch(ctx, connect.NewRequest(&purserv1.LaunchRequest{Spec: spec})); err != nil {
		return 0, err
	}
	id := app + "/" + function
	answer, err := n.api.Workloads.Wait(ctx, connect.NewRequest(&purserv1.WaitRequest{Id: id, Until: "running"}))
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if state := answer.Msg.GetWorkload().GetState(); state != "running" {
		return 0, fmt.Errorf("%s is %s: %s", id, state, answer.Msg.GetWorkload().GetReason())
	}
	return took, nil
}

// plainClient does what containerd's own documentation shows.
func (n *node) plainClient(ctx context.Context) (took time.Duration, remove func() error, err error) {
	ctx = namespaces.WithNamespace(ctx, "purser")
	id := fmt.Sprintf("plain%d", n.count.Add(1))
	began := time.Now()
	img, err := n.plain.GetImage(ctx, image)
	if err != nil {
		return 0, nil, err
	}
	c, err := n.plain.NewContainer(ctx, id,
		containerd.WithNewSnapshot(id, img),
		containerd.WithNewSpec(oci.WithImageConfig(img), oci.WithProcessArgs("sleep", "1000")))
	if err != nil {
		return 0, nil, err
	}
	task, err := c.NewTask(ctx, cio.NewCreator(cio.WithStreams(nil, nil, nil)))
	if err != nil {
		return 0, nil, err
	}
	if err := task.Start(ctx); err != nil {
		return 0, nil, err
	}
	return time.Since(began), func() error {
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil {
			return err
		}
		return c.Delete(ctx, containerd.WithSnapshotCleanup)
	}, nil
}
