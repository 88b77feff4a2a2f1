package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/handover"
	"github.com/purserd/purser/runtime/handover/protocol"
	"github.com/purserd/purser/runtime/private"
)

// idle does nothing, in a runtime's place.
const idle = "/bin/true"

// overhead is a comparison with the goal that the first takes no more than this
// longer than the second.
type overhead struct {
	with, without *contender
	goal          time.Duration
}

// measureWrapper measures what purser-oci adds to a call that it passes on, and to a
// create that it asks the agent about. Of the first, all but 0.1 ms is what any Go
// program takes to start and to exec another.
func measureWrapper(ctx context.Context, rounds int) error {
	w, err := newWrapped(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	all := []overhead{
		{&contender{name: "wrapped runc --version", launch: version(w.runc.Path)}, &contender{name: "runc --version", launch: version("runc")}, time.Millisecond},
		{&contender{name: "wrapped create with a token", launch: w.create(w.idle.Path)}, &contender{name: "create", launch: w.create(idle)}, 2 * time.Millisecond},
	}
	var contenders []*contender
	for _, o := range all {
		contenders = append(contenders, o.with, o.without)
	}
	if err := measure(ctx, rounds, contenders); err != nil {
		return err
	}
	reportOverheads(rounds, all)
	return nil
}

// wrapped is an agent's side of the wrapper, and two runtimes behind it.
type wrapped struct {
	*handover.Server
	private, bundle string
	cgroup          private.Cgroup
	runc, idle      handover.Installed
	spec            *specs.Spec
	count           int
}

func newWrapped(ctx context.Context) (w *wrapped, err error) {
	dir, err := os.MkdirTemp("/tmp", "purser-bench-")
	if err != nil {
		return nil, err
	}
	w = &wrapped{private: filepath.Join(dir, "private"), bundle: filepath.Join(dir, "bundle")}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err := w.serve(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(w.bundle, 0o700); err != nil {
		return nil, err
	}
	// What containerd's own clients give a container.
	w.spec, err = oci.GenerateSpec(namespaces.WithNamespace(ctx, "bench"), nil, &containers.Container{ID: "bench"})
	return w, err
}

// serve installs the runtimes, on memory as an agent does.
func (w *wrapped) serve() error {
	if err := private.Mount(w.private, private.Options{}); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	if w.cgroup, err = private.MakeCgroup("/"+filepath.Base(filepath.Dir(w.private)), true, quiet); err != nil {
		return err
	}
	if w.Server, err = handover.Listen(handover.Options{Dir: w.private, Log: quiet, Observe: func(string) {}, Join: w.cgroup.Join}); err != nil {
		return err
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	wrapper := filepath.Join(filepath.Dir(binary()), protocol.Wrapper)
	if wrapper, err = filepath.Abs(wrapper); err != nil {
		return err
	}
	var idleErr error
	w.runc, err = w.Install("runc", wrapper, runc)
	w.idle, idleErr = w.Install("idle", wrapper, idle)
	return errors.Join(err, idleErr)
}

func (w *wrapped) close() {
	if w.Server != nil {
		w.Close()
	}
	w.cgroup.Remove()
	_ = unix.Unmount(w.private, 0)
	os.RemoveAll(filepath.Dir(w.private))
}

func version(runtime string) func(context.Context) (time.Duration, error) {
	return func(context.Context) (time.Duration, error) { return timed(exec.Command(runtime, "--version")) }
}

// create runs a runtime as containerd's shim does, with a token that is good.
func (w *wrapped) create(runtime string) func(context.Context) (time.Duration, error) {
	return func(context.Context) (time.Duration, error) {
		w.count++
		id := fmt.Sprintf("c%d", w.count)
		token, forget := w.Expect(protocol.OpCreate, id, handover.Spec([]string{"SECRET=value"}, w.idle))
		defer forget()
		w.spec.Annotations = map[string]string{protocol.Annotation: token}
		config, err := json.Marshal(w.spec)
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(w.bundle, "config.json"), config, 0o600); err != nil {
			return 0, err
		}
		return timed(exec.Command(runtime, "--root", w.idle.Root, "--log", filepath.Join(w.bundle, "log.json"), "--log-format", "json",
			"create", "--bundle", w.bundle, "--pid-file", filepath.Join(w.bundle, "init.pid"), id))
	}
}
