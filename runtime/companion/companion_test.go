package companion

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

func TestTheNextAgentFindsIt(t *testing.T) {
	a := newAgent(t)
	a.open()
	before := a.pid()
	a.leave()
	a.open()
	if now := a.pid(); now != before {
		t.Errorf("process %d has followed %d", now, before)
	}
	if a.gaps.Load() != 0 {
		t.Error("it was to be ended")
	}
}

// One that is killed, at any instant, is followed by another, which answers what is asked.
func TestKilled(t *testing.T) {
	a := newAgent(t)
	a.open()
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					a.pid()
				}
			}
		})
	}
	for i := range int32(5) {
		a.kill(a.pid())
		a.awaitRestarts(i + 1)
	}
	close(stop)
	asking.Wait()
}

// If only the connection breaks, nothing has been restarted.
func TestTheConnectionBreaks(t *testing.T) {
	a := newAgent(t)
	a.open()
	before := a.pid()
	for range 3 {
		broken := false
		err := a.Do(t.Context(), func(l *link) (bool, error) {
			if !broken {
				broken = true
				return false, errors.Join(errors.New("broken"), l.conn.Close())
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if now := a.pid(); now != before || a.restarts.Load() != 0 {
		t.Errorf("process %d has followed %d, and counts as %d restarts", now, before, a.restarts.Load())
	}
}

func TestItHangs(t *testing.T) {
	a := newAgent(t)
	a.config.Heartbeat = 500 * time.Millisecond
	a.open()
	before := a.pid()
	halt(t, before)
	a.awaitRestarts(1)
	if !ended(before) || a.pid() == before {
		t.Error("it was not killed")
	}
	if !strings.Contains(a.log.String(), "the test companion does not answer, and is killed") {
		t.Error("nobody was told")
	}
}

func TestAnAgentComesWhileItHangs(t *testing.T) {
	a := newAgent(t)
	a.open()
	before := a.pid()
	a.leave()
	halt(t, before)
	a.config.Heartbeat = 100 * time.Millisecond
	a.open()
	if a.pid() == before || a.gaps.Load() == 0 {
		t.Error("one that hangs is gone on with")
	}
}

// An agent does not wait for one that hangs for longer than it wants to.
func TestAnAgentDoesNotWait(t *testing.T) {
	a := newAgent(t)
	a.open()
	before := a.pid()
	a.leave()
	halt(t, before)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, a.config); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := syscall.Kill(before, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.open()
	if a.pid() != before {
		t.Error("one that was halted for a moment was killed")
	}
}

// One that nobody waits for any more serves all the same.
func TestAnAgentGoesWhileItStarts(t *testing.T) {
	a := newAgent(t)
	lock, err := Lock(a.config.Dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, a.config); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	lock.Close()
	if !rig.ComesTrue(10*time.Second, func() bool {
		conn, err := net.Dial("unix", filepath.Join(a.config.Dir, "socket"))
		return err == nil && conn.Close() == nil
	}) {
		t.Error("it does not serve")
	}
	a.open()
	a.pid()
}

// Where an agent dies right after it has started one, the next agent may start another before
// the first serves. It goes on with that, and does not wait for its end.
func TestTwoAreStartedAtOnce(t *testing.T) {
	a, b := newAgent(t), newAgent(t)
	b.config.Dir = a.config.Dir
	lock, err := Lock(a.config.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var opened sync.WaitGroup
	began := time.Now()
	opened.Go(a.open)
	opened.Go(b.open)
	time.AfterFunc(3*lookAgain, func() { lock.Close() }) // both have been started
	opened.Wait()
	if a.pid() != b.pid() {
		t.Error("there are two")
	}
	if took := time.Since(began); took > startTimeout/2 {
		t.Errorf("it took %s", took)
	}
	b.leave()
	a.close()
	a.Keeper = nil
}

// Of another executable is also what has the same path.
func TestUpgrade(t *testing.T) {
	a := newAgent(t)
	a.upgrade()
	a.open()
	for range 2 {
		before := a.pid()
		a.leave()
		a.upgrade()
		a.open()
		if a.pid() == before || !ended(before) {
			t.Error("the one before is gone on with")
		}
	}
	if a.gaps.Load() != 2 || a.restarts.Load() != 0 {
		t.Errorf("%d gaps, %d restarts", a.gaps.Load(), a.restarts.Load())
	}
}

func TestOfAnotherVersionAndStays(t *testing.T) {
	a := newAgent(t)
	a.open()
	before := a.pid()
	a.leave()
	a.upgrade()
	a.config.Leave = func(context.Context, *link) error { return fmt.Errorf("a reason: %w", ErrStays) }
	a.open()
	if a.pid() != before {
		t.Error("it had to go")
	}
	if !strings.Contains(a.log.String(), "a reason") {
		t.Errorf("nobody was told: %s", a.log.String())
	}
}

func TestOfAnotherVersionAndDoesNotLeave(t *testing.T) {
	a := newAgent(t)
	a.open()
	before := a.pid()
	a.leave()
	a.upgrade()
	a.config.Leave = func(context.Context, *link) error { return errors.New("no answer") }
	a.open()
	if a.pid() == before {
		t.Error("it was not killed")
	}
}

// What lies in the directory of one that was killed, by whatever process, is in nobody's way.
func TestStaleSockets(t *testing.T) {
	a := newAgent(t)
	if err := os.MkdirAll(a.config.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"socket", "socket.next"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(a.config.Dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	a.open()
	a.pid()
}

// It is killed as the process that it is, and not as its PID, which may be another's.
func TestKillingOfWhoHasAnotherPID(t *testing.T) {
	a := newAgent(t)
	a.open()
	old := a.pid()
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	there, err := a.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there.pid = other.Process.Pid
	a.Keeper.kill(there, ErrHangs)
	there.close()
	if err := other.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	_ = other.Wait()
	if by := other.ProcessState.Sys().(syscall.WaitStatus).Signal(); by != syscall.SIGTERM {
		t.Errorf("another process ended by %s", by)
	}
	a.awaitRestarts(1)
	if !ended(old) {
		t.Error("it was not killed")
	}
}

func TestItEndsAtOnce(t *testing.T) {
	a := newAgent(t)
	a.config.Flags = []string{"--fail"}
	_, err := Open(t.Context(), a.config)
	if err == nil || !strings.Contains(err.Error(), "the test companion ended at once (exit status 1): these are last words") {
		t.Errorf("%v", err)
	}
}

// What was started as a companion starts none.
func TestNoForkBomb(t *testing.T) {
	a := newAgent(t)
	t.Setenv(variable, "test companion")
	_, err := Open(t.Context(), a.config)
	if err == nil || !strings.HasSuffix(err.Error(), " was to be the test companion, and is not") {
		t.Errorf("%v", err)
	}
}

// One that does not take what is to be known to it is no help: it is tried again.
func TestAdoptFails(t *testing.T) {
	a := newAgent(t)
	var tries atomic.Int32
	a.config.Adopt = func(context.Context, *link) error {
		if n := tries.Add(1); n == 2 || n == 3 {
			return errors.New("a reason")
		}
		return nil
	}
	a.open()
	a.kill(a.pid())
	a.awaitRestarts(1)
	if tries.Load() != 4 || !strings.Contains(a.log.String(), "cannot start the test companion: tests wait") {
		t.Errorf("%d tries; %s", tries.Load(), a.log.String())
	}
}

// A companion ends when it has had nothing to do, and no agent, for a while; who comes then is
// not served.
func TestUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		busy := false
		s := NewService(&mu, func() bool { return busy })
		set := func(is bool) {
			mu.Lock()
			defer mu.Unlock()
			busy = is
			s.Rest()
		}
		over := func() bool {
			time.Sleep(2 * unused)
			select {
			case <-s.Over():
				return true
			default:
				return false
			}
		}
		agent := &net.UnixConn{}
		s.join(agent)
		if over() {
			t.Error("it ends with an agent")
		}
		set(true)
		s.leave(agent)
		if over() {
			t.Error("it ends with something to do")
		}
		set(false)
		time.Sleep(unused / 2)
		s.join(agent)
		s.leave(agent)
		time.Sleep(unused - time.Second)
		s.join(agent)
		if over() {
			t.Error("it ends with an agent that came in time")
		}
		s.leave(agent)
		if !over() {
			t.Error("it does not end")
		}
		if s.join(&net.UnixConn{}) {
			t.Error("it serves after its end")
		}
	})
}

func TestShared(t *testing.T) {
	type older struct{ a atomic.Uint64 }
	type newer struct{ a, b atomic.Uint64 }
	path := filepath.Join(t.TempDir(), "shared")
	o, err := Share[older](path)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	o.Value.a.Store(1)
	n, err := Share[newer](path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	o.Value.a.Add(1)
	n.Value.b.Store(3)
	if a, b := n.Value.a.Load(), n.Value.b.Load(); a != 2 || b != 3 {
		t.Errorf("%d, %d", a, b)
	}
}
