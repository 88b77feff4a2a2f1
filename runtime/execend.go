package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// settle takes what a command that has ended still wrote.
func (x *execution) settle(end execEnd) (uint32, error) {
	if !drain(drainTime, x.out...) {
		x.cutStreams()
	}
	x.clear()
	return end.code, end.err
}

// clear removes what is left of a command that has ended. Its caller is not kept
// waiting when that takes long: containerd 1.6 has shims that answer only after ten
// seconds, one time in fifty when as many end at once.
func (x *execution) clear() {
	stop(x.out...)
	cleared := make(chan struct{})
	x.r.lookAfter(func() {
		defer close(cleared)
		defer x.cleanup()
		x.letGoOfStdin()
		if err := x.remove(); err != nil {
			x.r.log.Warn("a command that has ended is still on containerd's list", "instance", x.id, "command", x.exec, "error", err)
		}
	})
	select {
	case <-cleared:
	case <-time.After(time.Second):
	}
}

// end ends the command, and with it what it started.
func (x *execution) end(ended <-chan execEnd) {
	if x.tty {
		x.family.hangUp()
	}
	x.kill()
	select {
	case <-ended:
	case <-time.After(killTimeout): // what cannot be killed is not waited for
	}
	x.cutStreams()
}

// abort makes sure that a command whose start failed is gone. One that never
// ran can be removed at once, and can't be waited for.
func (x *execution) abort() error {
	x.kill()
	if x.remove() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(x.r.ctx(context.Background()), killTimeout)
	defer cancel()
	x.wait(ctx)
	return x.remove()
}

type execEnd struct {
	code uint32
	err  error
}

// awaitEnd waits for the command beside its caller, also when ctx has ended.
func (x *execution) awaitEnd(ctx context.Context) <-chan execEnd {
	ended := make(chan execEnd, 1)
	go func() { ended <- x.wait(context.WithoutCancel(ctx)) }()
	return ended
}

func (x *execution) wait(ctx context.Context) execEnd {
	answer, err := x.r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: x.id, ExecID: x.exec})
	return execEnd{code: answer.GetExitStatus(), err: err}
}

// killTimeout bounds what is done for a command after its caller has gone.
const killTimeout = 10 * time.Second

// kill ends the command and what it started. Killing the process alone would
// leave its children running in the container.
func (x *execution) kill() {
	if x.family != nil {
		x.family.kill()
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := x.r.kill(ctx, x.id, x.exec, syscall.SIGKILL); err != nil && !errors.Is(err, ErrNotFound) {
		x.r.log.Warn("a command could not be killed", "instance", x.id, "error", err)
	}
}

// remove takes the command off containerd's list. A shim that still waits for the
// command's streams is told by a first short try that nobody else does.
func (x *execution) remove() error {
	if x.removeWithin(time.Second) == nil {
		return nil
	}
	return x.removeWithin(killTimeout)
}

// cutStreams removes a command whose streams are held open by what it left
// running. The shim would wait for them for ten seconds, but no longer than
// the caller.
func (x *execution) cutStreams() { _ = x.removeWithin(100 * time.Millisecond) }

func (x *execution) removeWithin(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(x.r.ctx(context.Background()), limit)
	defer cancel()
	_, err := x.r.client.TaskService().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: x.id, ExecID: x.exec})
	if isNotFound(err) {
		return nil
	}
	return err
}

// cleanup closes our ends of the streams and removes them.
func (x *execution) cleanup() {
	x.closeEnds()
	if x.sandbox != nil {
		_ = os.Remove(noteOf(x.sandbox.notes, x.exec))
	}
	if err := os.RemoveAll(x.dir); err != nil {
		x.r.log.Warn("files of a command are left", "dir", x.dir, "error", err)
	}
}

// feed writes to the command's stdin and closes it. What it does not take any more is
// read all the same: whoever sends it has signals to send, too.
func (x *execution) feed(from io.Reader) {
	if _, err := io.Copy(x.stdin, from); err != nil {
		_, _ = io.Copy(io.Discard, from)
	}
	if x.tty {
		return // to close it would be to hang up
	}
	x.stdin.Close()
	x.closeStdin()
}

// letGoOfStdin has the shim close the stdin of a command that has ended, which it
// keeps open for ever where there is a terminal.
func (x *execution) letGoOfStdin() {
	if x.tty && x.stdin != nil {
		x.stdin.Close()
		x.closeStdin()
	}
}

func (x *execution) closeStdin() {
	if err := x.r.closeIO(context.Background(), x.id, x.exec); err != nil {
		x.r.log.Debug("closing stdin of a command", "instance", x.id, "error", err)
	}
}
