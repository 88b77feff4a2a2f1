package runtime

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"golang.org/x/sys/unix"
)

// Commands that are run in containers outlive an agent that dies. Each has a directory
// of its own, by which the next agent finds it.

// execPrefix begins the names of commands, and of their directories.
const execPrefix = "exec-"

// detachedMark, in a command's directory, says that its client let it run on.
const detachedMark = "detached"

// newExecPrefix begins the names of the commands of one process, so that it does not take
// them for those of an earlier one: a command may run before its container's are taken up.
func newExecPrefix() string { return execPrefix + strings.ToLower(rand.Text()[:6]) + "-" }

// takeUpExecs deals with the commands that an earlier process left in a container.
// Those whose clients let them run on do so, and what they write is read; the others
// end, as their clients have.
func (r *Runtime) takeUpExecs(id string) {
	dirs, err := filepath.Glob(filepath.Join(r.cfg.instanceDir(id), execPrefix+"*"))
	if err != nil {
		return // of a bad pattern alone, which this is not
	}
	for _, dir := range dirs {
		if strings.HasPrefix(filepath.Base(dir), r.execPrefix) {
			continue
		}
		x := &execution{r: r, id: id, exec: filepath.Base(dir), dir: dir, paths: fifosIn(dir)}
		x.tty = x.paths.stderr == ""
		r.lookAfter(func() {
			if err := x.takeUp(); err != nil {
				r.log.Warn("a command of an earlier agent cannot be looked after", "instance", id, "command", x.exec, "error", err)
			}
		})
	}
}

func (x *execution) takeUp() error {
	ctx := x.r.ctx(context.Background())
	answer, err := x.ask(ctx)
	if err != nil && !isNotFound(err) {
		return err
	}
	p := answer.GetProcess()
	if isNotFound(err) || p.GetStatus() == task.Status_STOPPED || p.GetPid() == 0 {
		x.clear()
		return nil
	}
	record, err := x.r.client.ContainerService().Get(ctx, x.id)
	if err != nil {
		return err
	}
	x.sandbox, x.pid = x.r.sandboxOf(record), int(p.GetPid())
	x.family = x.findFamily()
	ended := x.awaitEnd(ctx)
	if !exists(filepath.Join(x.dir, detachedMark)) {
		x.end(ended)
		x.clear()
		return nil
	}
	x.detached.Store(true)
	if err := x.openOutput(nil, nil); err != nil {
		x.giveUp(ended)
		return fmt.Errorf("it is ended, as its output cannot be read: %w", err)
	}
	for _, c := range x.out {
		go c.run()
	}
	x.runOn(ended)
	return nil
}

// shimPatience is more than containerd's shim waits for somebody to open the streams of
// a command that it starts.
const shimPatience = 40 * time.Second

// ask asks what became of a command. The shim may be waiting for the agent that died to
// open the command's streams, and answers nothing until somebody does.
func (x *execution) ask(ctx context.Context) (*tasks.GetResponse, error) {
	for _, path := range []string{x.paths.stdin, x.paths.stdout, x.paths.stderr} {
		if both, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0); err == nil {
			defer both.Close()
		}
	}
	for deadline := time.Now().Add(shimPatience); ; {
		answer, err := x.r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: x.id, ExecID: x.exec})
		if !x.r.unheard(ctx, answer.GetProcess(), err) {
			return answer, err
		}
		if time.Now().After(deadline) {
			return nil, errShimHangs
		}
		select {
		case <-x.r.closing:
			return nil, errShimHangs
		case <-time.After(lookAgain):
		}
	}
}

// giveUp ends a command of whose output not all could be opened: unread, it would be
// blocked for ever.
func (x *execution) giveUp(ended <-chan execEnd) {
	for _, c := range x.out {
		c.from.Close()
	}
	x.out = nil // none runs, so that none could be waited for
	x.end(ended)
	x.clear()
}

// detach has the command looked after until it ends, or the runtime is closed.
func (x *execution) detach(ended <-chan execEnd) {
	x.detached.Store(true)
	if err := os.WriteFile(filepath.Join(x.dir, detachedMark), nil, 0o600); err != nil {
		x.r.log.Warn("a command that was let run on ends with its agent", "instance", x.id, "error", err)
	}
	x.r.lookAfter(func() { x.runOn(ended) })
}

// runOn drops what a detached command writes. When the runtime is closed, the next one
// finds the command by its directory.
func (x *execution) runOn(ended <-chan execEnd) {
	select {
	case end := <-ended:
		_, _ = x.settle(end)
	case <-x.r.closing:
		x.closeEnds()
	}
}

// closeEnds closes our ends of the streams.
func (x *execution) closeEnds() {
	if x.stdin != nil {
		x.stdin.Close()
	}
	for _, c := range x.out {
		c.from.Close()
		if x.pid > 0 {
			<-c.ended
		}
	}
}

// fifosIn are those that are in a directory.
func fifosIn(dir string) fifos {
	there := func(name string) string {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
		return ""
	}
	return fifos{stdin: there("stdin"), stdout: there("stdout"), stderr: there("stderr")}
}
