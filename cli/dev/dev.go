package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/purserd/purser/agent/config"
)

// containerdGrace is how long containerd may take to end; it has nothing to
// wait for once the agent has stopped the workloads.
const containerdGrace = 10 * time.Second

// Options say what to run and where.
type Options struct {
	// Dir is the node's directory; it is made when it is not there.
	Dir string
	// Containerd is the path of the executable or of its directory; empty
	// looks for it in PATH and the usual directories.
	Containerd string
	// Config is a file with settings of the agent that are to differ from those of
	// such a node; empty for none.
	Config string
	// Out gets the lines that tell where the node is; Err all others.
	Out, Err io.Writer
	// Signals ends the node with the first value, and hard with the second.
	Signals <-chan os.Signal
}

// DefaultDir is where a user's node is: ${XDG_DATA_HOME:-~/.local/share}/purser/dev.
func DefaultDir() (string, error) {
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "purser", "dev"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding a directory for the node: %w; choose one with --dir", err)
	}
	return filepath.Join(home, ".local", "share", "purser", "dev"), nil
}

// EndSignals are those that end a node: an interrupt, a request, and a
// terminal that closes unless the user has said nohup.
func EndSignals() []os.Signal {
	ends := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		ends = append(ends, syscall.SIGHUP)
	}
	return ends
}

// node is a node that runs.
type node struct {
	*layout
	options           Options
	programs          *programs
	config            *config.Config
	containerd, agent *child

	mu sync.Mutex // one writer to Out and Err at a time
}

// Run starts a node, says on Out where it is once it serves, and returns when
// it has been asked to end and nothing of it is left.
func Run(options Options) error {
	n := &node{options: options}
	if err := n.prepare(); err != nil {
		return err
	}
	unlock, err := n.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := n.prepareSockets(); err != nil {
		return err
	}
	if err := n.writeConfigs(n.config); err != nil {
		return err
	}
	closeLogs, err := n.makeChildren()
	if err != nil {
		return err
	}
	defer closeLogs()
	return n.run()
}

// prepare checks what can be checked before anything is written.
func (n *node) prepare() error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root, to make containers: sudo purser dev")
	}
	var err error
	if n.programs, err = findPrograms(n.options.Containerd, usualDirs); err != nil {
		return err
	}
	// A file that is wrong is told before there is a directory.
	if _, err = newLayout(n.options.Dir).configure(n.programs, n.options.Config); err != nil {
		return err
	}
	if n.layout, err = makeLayout(n.options.Dir); err != nil {
		return err
	}
	n.config, err = n.configure(n.programs, n.options.Config)
	return err
}

func (n *node) makeChildren() (closeLogs func(), err error) {
	containerdLog, err := openLog(n.path("log", "containerd.log"), "containerd", n.say)
	if err != nil {
		return nil, err
	}
	agentLog, err := openLog(n.path("log", "agent.log"), "agent", n.say)
	if err != nil {
		containerdLog.Close()
		return nil, err
	}
	n.containerd = newChild("containerd", func() *exec.Cmd {
		return n.command(containerdLog, n.programs.containerd, "--config", n.path("containerd.toml"))
	}, n.say)
	n.agent = newChild("the agent", func() *exec.Cmd {
		return n.command(agentLog, n.programs.purser, "agent", "--config", n.path("agent.toml"), "--stop-workloads-on-exit")
	}, n.say)
	return func() {
		containerdLog.Close()
		agentLog.Close()
	}, nil
}

func (n *node) command(log io.Writer, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = n.programs.environ()
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	return cmd
}

// run keeps the node until a signal, or until its start has failed.
func (n *node) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- n.start(ctx) }()

	var failure error
	select {
	case <-n.options.Signals:
	case failure = <-started:
		if failure == nil {
			<-n.options.Signals
		}
	}
	cancel()
	n.end()
	return errors.Join(failure, n.cleanUp())
}

// start returns once the node serves.
func (n *node) start(ctx context.Context) error {
	n.containerd.start()
	if err := n.await(ctx, n.containerd, "containerd.log", n.containerdListens); err != nil {
		return err
	}
	n.agent.restarted = func() { go n.announceAgain(ctx) }
	n.agent.start()
	var address string
	err := n.await(ctx, n.agent, "agent.log", func(ctx context.Context) (bool, error) {
		var ready bool
		var err error
		ready, address, err = n.serves(ctx)
		return ready, err
	})
	if err != nil {
		return err
	}
	n.announce(address)
	return nil
}

// end stops the agent, which stops the workloads, then containerd. A further
// signal does not wait for either.
func (n *node) end() {
	n.say("stopping the workloads and the node; interrupt again to kill them")
	if n.finish(n.agent, 0) {
		n.finish(n.containerd, containerdGrace)
		return
	}
	n.containerd.end(syscall.SIGKILL)
	<-n.containerd.done
}

// finish ends a child and tells whether it ended by itself, in its time (0 for
// any) and before another signal.
func (n *node) finish(c *child, grace time.Duration) bool {
	c.end(syscall.SIGTERM)
	var late <-chan time.Time
	if grace > 0 {
		late = time.After(grace)
	}
	select {
	case <-c.done:
		return true
	case <-late:
	case <-n.options.Signals:
	}
	c.end(syscall.SIGKILL)
	<-c.done
	return false
}

func (n *node) cleanUp() error {
	found, err := n.sweep()
	if len(found) > 0 {
		n.say("killed or removed what the agent had left: %s", strings.Join(found, ", "))
	}
	n.removeSockets()
	if err != nil {
		return fmt.Errorf("cleaning up after the node: %w", err)
	}
	return nil
}

// say tells the user something about the node.
func (n *node) say(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.options.Err, "purser dev: "+format+"\n", args...)
}
