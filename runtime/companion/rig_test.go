package companion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// TestMain is other processes, too: the companion.
func TestMain(m *testing.M) {
	Main("test", serveTest)
	// The race detector has every process sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// served is a companion that does nothing but say who it is.
type served struct {
	mu      sync.Mutex
	service *Service
}

func serveTest(dir string, flags []string) error {
	if len(flags) > 0 {
		return errors.New("these are last words")
	}
	lock, err := Lock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	s := &served{}
	s.service = NewService(&s.mu, func() bool { return false })
	server := rpc.NewServer()
	if err := server.RegisterName("S", s); err != nil {
		return err
	}
	s.mu.Lock()
	err = s.service.Listen(filepath.Join(dir, "socket"), func(conn *net.UnixConn) { server.ServeConn(conn) })
	s.mu.Unlock()
	if err != nil {
		return err
	}
	defer s.service.Close()
	Ready()
	<-s.service.Over()
	return nil
}

func (s *served) Hello(_ struct{}, answer *Executable) (err error) {
	*answer, err = Self()
	return err
}

func (s *served) PID(_ struct{}, answer *int) error {
	*answer = os.Getpid()
	return nil
}

func (s *served) Leave(struct{}, *struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service.End()
	return nil
}

// link is one to it.
type link struct {
	*rpc.Client
	conn *ending
}

// ending says when a connection has ended.
type ending struct {
	net.Conn
	once sync.Once
	gone chan struct{}
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	if err != nil {
		e.once.Do(func() { close(e.gone) })
	}
	return n, err
}

func newLink(conn *net.UnixConn) *link {
	e := &ending{Conn: conn, gone: make(chan struct{})}
	return &link{rpc.NewClient(e), e}
}

func (l *link) Gone() <-chan struct{} { return l.conn.gone }

func (l *link) Hello(ctx context.Context, limit time.Duration) (is Executable, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrHangs)
	defer cancel()
	return is, l.ask(ctx, "Hello", &is)
}

func (l *link) ask(ctx context.Context, method string, answer any) error {
	call := l.Go("S."+method, struct{}{}, answer, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		return call.Error
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// agent is one that keeps the companion up.
type agent struct {
	*Keeper[*link]
	t        *testing.T
	config   Config[*link]
	log      lockedBuffer
	restarts atomic.Int32
	gaps     atomic.Int32
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newAgent starts an agent, which is not there yet: see open.
func newAgent(t *testing.T) *agent {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t}
	a.config = Config[*link]{
		Options: Options{
			Dir: filepath.Join(t.TempDir(), "companion"), Command: []string{self, "test"}, Heartbeat: 2 * time.Second,
			Log:       slog.New(slog.NewTextHandler(&a.log, nil)),
			Restarted: func() { a.restarts.Add(1) },
		},
		Name: "test companion", Socket: "socket", MissedBeats: 1, Absence: "tests wait",
		Link: newLink, Gap: func() { a.gaps.Add(1) },
		Leave: func(ctx context.Context, l *link) error { return l.ask(ctx, "Leave", &struct{}{}) },
	}
	t.Cleanup(func() {
		a.close()
		a.awaitNone()
		if t.Failed() {
			t.Log(a.log.String())
		}
	})
	return a
}

// awaitNone waits until no companion has the directory, nor waits for it.
func (a *agent) awaitNone() {
	left := func() []int { return rig.Processes(filepath.Dir(a.config.Dir), "test --dir") }
	if rig.ComesTrue(2*unused, func() bool { return len(left()) == 0 }) {
		return
	}
	a.t.Errorf("companions are left: %v", left())
	for _, pid := range left() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (a *agent) open() {
	a.t.Helper()
	k, err := Open(a.t.Context(), a.config)
	if err != nil {
		a.t.Fatal(err)
	}
	a.Keeper = k
}

// leave is the end of an agent.
func (a *agent) leave() {
	a.t.Helper()
	if err := a.Close(func(*link) error { return nil }); err != nil {
		a.t.Error(err)
	}
	a.Keeper = nil
}

// close ends the companion, too.
func (a *agent) close() {
	if a.Keeper != nil {
		_ = a.Close(func(l *link) error { return l.Call("S.Leave", struct{}{}, &struct{}{}) })
	}
}

// pid is that of the companion, by its own word.
func (a *agent) pid() (pid int) {
	a.t.Helper()
	err := a.Do(a.t.Context(), func(l *link) (bool, error) { return false, l.ask(a.t.Context(), "PID", &pid) })
	if err != nil {
		a.t.Fatal(err)
	}
	return pid
}

func (a *agent) kill(pid int) {
	a.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		a.t.Fatal(err)
	}
}

// awaitRestarts waits until there have been so many.
func (a *agent) awaitRestarts(n int32) {
	a.t.Helper()
	if !rig.ComesTrue(20*time.Second, func() bool { return a.restarts.Load() == n }) {
		a.t.Fatalf("%d restarts, not %d", a.restarts.Load(), n)
	}
}

// halt returns once none of a process's threads runs any more: until then it may answer.
func halt(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}

// upgrade has another file lie where the executable is looked for.
func (a *agent) upgrade() {
	a.t.Helper()
	program, err := os.ReadFile(a.config.Command[0])
	if err != nil {
		a.t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(a.config.Dir), "program")
	if err := os.WriteFile(path+".next", program, 0o700); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		a.t.Fatal(err)
	}
	a.config.Command = []string{path, "test"}
}

// ended tells whether a process has.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}
