package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// sitting is a purser command on a terminal.
type sitting struct {
	*rig.Terminal
	n   *node
	cmd *exec.Cmd
	// before are the terminal's modes before purser came.
	before unix.Termios
}

// sit runs a purser command on a terminal of 24 rows and 80 columns, as a shell
// would in the foreground.
func (n *node) sit(t testing.TB, args ...string) *sitting {
	t.Helper()
	s := &sitting{Terminal: rig.OpenTerminal(t, 24, 80), n: n, cmd: n.command(args...)}
	s.cmd.Env = append(s.cmd.Env, "TERM=vt220")
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.Line, s.Line, s.Line
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.before = s.Modes()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// status waits for the command's end.
func (s *sitting) status(t testing.TB) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case <-done:
	case <-within(t, patience).Done():
		s.cmd.Process.Kill()
		<-done
		t.Fatalf("%v does not end; the terminal shows %q", s.cmd.Args, s.Shown())
	}
	return s.cmd.ProcessState.ExitCode()
}

// terminalApp has a service of each kind: with a secret in its environment and
// without, with a terminal and without.
const terminalApp = `
app: a
defaults:
  image: {ref: ` + image + `}
  runtime: RUNTIME
  stop: {grace: 0s}
functions:
  - {function: plain, command: [sleep, '100000']}
  - {function: f, command: [sleep, '100000'], secrets: [{name: s}]}
  - {function: shell, command: [sh], stdin: true, tty: true}
`

// onEachRuntime runs a test on a node for each containerd and OCI runtime.
func onEachRuntime(t *testing.T, test func(t *testing.T, n *node, runtime string)) {
	for _, c := range []struct {
		version rig.Version
		runtime string
	}{{rig.V16, "runc"}, {rig.V24, "runc"}, {rig.V24, "crun"}, {rig.V24, "runsc"}} {
		t.Run("containerd "+string(c.version)+" "+c.runtime, func(t *testing.T) {
			t.Parallel()
			config := ""
			if c.runtime != "runc" {
				config = fmt.Sprintf("[runtimes.%s]\npath = %q\n", c.runtime, rig.Runtime(t, c.runtime))
			}
			n := emptyNodeWith(t, c.version, config)
			n.must("image", "import", boxImage(t))
			n.runWith("one", "secret", "set", "s", "KEY=-")
			n.deploy(strings.Replace(terminalApp, "RUNTIME", c.runtime, 1), "--wait")
			test(t, n, c.runtime)
		})
	}
}

func TestExecOnATerminal(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, func(t *testing.T, n *node, runtime string) {
		for id, key := range map[string]string{"a/plain": "", "a/f": "one"} {
			s := n.sit(t, "exec", "-it", id, "--", "sh")
			s.Await("# ", 1)
			n.eventually("the terminal's keys to be the command's", func() bool { return s.Modes() != s.before })
			// gVisor's terminals have no names.
			s.Type("test -t 0 && tty; echo term=$TERM key=$KEY\r")
			s.Await(map[bool]string{true: "not a tty\r", false: "/dev/pts/"}[runtime == "runsc"], 1)
			s.Await("term=vt220 key="+key+"\r", 1)
			s.Type("stty size\r")
			s.Await("24 80\r", 1)
			s.Resize(33, 111)
			n.eventually("the new size", func() bool {
				s.Type("stty size\r")
				return strings.Contains(s.Shown(), "33 111\r")
			})
			s.Type("echo begun; sleep 100000 && echo never\r")
			s.Await("begun\r", 1)
			n.eventually("it to be interrupted", func() bool {
				s.Type("\x03echo inter''rupted\r")
				return strings.Contains(s.Shown(), "interrupted\r")
			})
			s.Type("exit 3\r")
			if code := s.status(t); code != 3 {
				t.Errorf("%s: exit status %d: %q", id, code, s.Shown())
			}
			if s.Modes() != s.before {
				t.Error("the terminal is not what it was")
			}
		}
		// The size is there from the start, or with crun and runsc a moment later, and
		// one stream is all.
		size := "until stty size | grep 80; do sleep 0.05; done" // stty alone succeeds without one
		if runtime == "runsc" {
			size = "stty size"
		}
		s := n.sit(t, "exec", "-t", "a/f", "--", "sh", "-c", size+"; echo err >&2; exit 4")
		if code := s.status(t); code != 4 {
			t.Errorf("exit status %d", code)
		}
		if runtime != "runsc" {
			s.Await("24 80\r", 1)
		}
		s.Await("err\r", 1)
		if s := n.sit(t, "exec", "-it", "a/f", "--", "no-such-command"); s.status(t) != 127 {
			t.Errorf("not found: %q", s.Shown())
		}
		if r := n.run("exec", "-it", "a/f", "--", "true"); r.code != 125 || !strings.Contains(r.stderr, "-t needs a terminal") {
			t.Errorf("without a terminal: %+v", r)
		}
	})
}

// procsOf are the command lines of the processes in a workload's container, less
// those that have ended: a first process such as sleep buries nobody.
func (n *node) procsOf(id string) string {
	n.t.Helper()
	var procs strings.Builder
	for line := range strings.Lines(n.must("exec", id, "--", "ps", "-o", "stat,args")) {
		if !strings.HasPrefix(line, "Z") && !strings.Contains(line, "ps -o stat,args") {
			procs.WriteString(strings.Join(strings.Fields(line)[1:], " ") + "\n")
		}
	}
	return procs.String()
}

// onlyThere waits until those are the only processes in a workload's container.
func (n *node) onlyThere(id, procs string) {
	n.t.Helper()
	n.eventually("nothing else to run in "+id+" than\n"+procs, func() bool { return n.procsOf(id) == procs })
}

// endsAtOnce is how many clients end at once: fewer files than that may stay open.
const endsAtOnce = 5

// A client that dies, and a terminal that closes, take all with them that ran on
// it; so does the end of purser by a second SIGTERM.
func TestExecEndsWithItsClient(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, func(t *testing.T, n *node, runtime string) {
		before := n.procsOf("a/f")
		shim := n.shimFiles("a/f")
		ends := map[string]func(s *sitting){
			"killed": func(s *sitting) { s.cmd.Process.Kill() },
			"window": func(s *sitting) { s.HangUp() },
			"second": func(s *sitting) {
				// Of these a shell ignores the first.
				s.cmd.Process.Signal(syscall.SIGTERM)
				s.Type("echo still''here\r")
				s.Await("stillhere\r", 1)
				s.cmd.Process.Signal(syscall.SIGTERM)
			},
		}
		for how, end := range ends {
			t.Run(how, func(t *testing.T) {
				// Together, so that what each leaves behind is not taken for the shim's own.
				var all sync.WaitGroup
				for range endsAtOnce {
					all.Go(func() {
						s := n.sit(t, "exec", "-it", "a/f", "--", "sh")
						s.Await("# ", 1)
						// Jobs have process groups of their own; one does not heed the end.
						s.Type("sleep 4241 & (trap '' HUP; sleep 4242; sleep 4243) &\r")
						s.Type("echo go''ing\r")
						s.Await("going\r", 1)
						end(s)
						code := s.status(t)
						if how == "second" && (code != 128+15 || s.Modes() != s.before) {
							t.Errorf("exit status %d, modes restored: %v", code, s.Modes() == s.before)
						}
					})
				}
				all.Wait()
				n.onlyThere("a/f", before)
			})
		}
		t.Run("no terminal", func(t *testing.T) {
			cmd := n.command("exec", "-i", "a/f", "--", "sh", "-c", "sleep 4244 & (sleep 4248 &); echo up; trap '' HUP TERM; cat; sleep 4245")
			in, _ := cmd.StdinPipe()
			defer in.Close()
			out, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			cmd.Process.Kill()
			cmd.Wait()
			n.onlyThere("a/f", before)
		})
		n.nothingLeft("a/f", shim)
	})
}

// An agent that is killed takes its clients' commands along, once the next one is
// there; a command that was let run on does so, and is not kept from writing.
func TestExecOutlivesNoAgent(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, func(t *testing.T, n *node, runtime string) {
		before := n.procsOf("a/f")
		left := n.sit(t, "exec", "-it", "a/f", "--", "sh", "-c", "echo up; while ! test -e /tmp/go; do sleep 0.1; done; seq 100000; touch /tmp/done; rm /tmp/go")
		left.Await("up\r", 1)
		left.Type("\x10\x11")
		if code := left.status(t); code != 0 {
			t.Errorf("detaching: exit status %d, %q", code, left.Shown())
		}
		s := n.sit(t, "exec", "-it", "a/f", "--", "sh", "-c", "sleep 4246 & echo up; sleep 4247")
		s.Await("up\r", 1)
		agent := n.pidOf(t, "purser agent")
		if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if code := s.status(t); code != 125 || s.Modes() != s.before {
			t.Errorf("exit status %d, %q", code, s.Shown())
		}
		s.Await("the connection to the agent has broken", 1)
		if strings.Contains(s.Shown(), "\r\r\n") {
			t.Errorf("the terminal was not the command's from the start: %q", s.Shown())
		}
		n.eventually("a new agent", func() bool { return !alive(agent) && n.serves() })
		n.await("a/f", "adopted", inState("running"))
		n.eventually("the command of the client that is gone to end", func() bool {
			return !strings.Contains(n.procsOf("a/f"), "sleep 424")
		})
		n.must("exec", "a/f", "--", "touch", "/tmp/go")
		n.eventually("the other to go on", func() bool { return n.run("exec", "a/f", "--", "test", "-e", "/tmp/done").code == 0 })
		n.onlyThere("a/f", before)
		n.eventually("the FIFOs to be gone", func() bool {
			left, err := filepath.Glob(filepath.Join(n.dir, "run", "instances", "*", "exec-*"))
			return err == nil && len(left) == 0
		})
	})
}

// shimFiles counts the files that a workload's shim has open.
func (n *node) shimFiles(id string) int {
	n.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.shim(id)))
	if err != nil {
		n.t.Fatal(err)
	}
	return len(all)
}

// nothingLeft checks that of execs, of which there were endsAtOnce of each kind,
// nothing is left outside of the container, too. The shim may have opened what it
// keeps.
func (n *node) nothingLeft(id string, shim int) {
	n.t.Helper()
	closed := func() bool { return n.shimFiles(id) < shim+endsAtOnce }
	// Longer than others, as containerd 1.6 and gVisor take half a minute.
	if !rig.ComesTrue(2*patience, closed) {
		n.t.Errorf("the shim had %d files open, and has %d", shim, n.shimFiles(id))
	}
	n.eventually("the FIFOs to be gone", func() bool {
		left, err := filepath.Glob(filepath.Join(n.dir, "run", "instances", "*", "exec-*"))
		return err == nil && len(left) == 0
	})
}

func TestDetachFromExec(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, func(t *testing.T, n *node, runtime string) {
		s := n.sit(t, "exec", "-it", "a/f", "--", "sh", "-c", "echo up; read a; echo $a; sleep 3; seq 100000; touch /tmp/done; sleep 1000")
		s.Await("up\r", 1)
		s.Type("\x10x\r") // a start of the keys is no more than that
		s.Await("x\r", 1)
		s.Type("\x10\x11")
		s.Await("detached", 1)
		if code := s.status(t); code != 0 || s.Modes() != s.before {
			t.Errorf("exit status %d, %q", code, s.Shown())
		}
		n.eventually("the command to go on", func() bool { return n.run("exec", "a/f", "--", "test", "-e", "/tmp/done").code == 0 })

		s = n.sit(t, "exec", "-it", "--detach-keys", "a,ctrl-x", "a/f", "--", "cat")
		n.eventually("it to be left by other keys", func() bool {
			s.Type("\x10\x11a\x18")
			return strings.Contains(s.Shown(), "detached")
		})
		if code := s.status(t); code != 0 {
			t.Errorf("exit status %d", code)
		}
	})
}

func TestManyTerminalsAtOnce(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, func(t *testing.T, n *node, runtime string) {
		shim, many := n.shimFiles("a/f"), 50
		if runtime == "runsc" {
			many = 5 // each takes a process of 100 MB
		}
		if n.version == rig.V16 {
			many = 15 // here the ends of commands come some 0.4 s apart
		}
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				s := n.sit(t, "exec", "-it", "a/f", "--", "sh", "-c", fmt.Sprintf("read a; echo got $a; exit %d", i))
				s.Type(fmt.Sprintf("line %d\r", i))
				if code := s.status(t); code != i {
					t.Errorf("exec %d: exit status %d, %q", i, code, s.Shown())
				}
				s.Await(fmt.Sprintf("got line %d\r", i), 1)
			})
		}
		all.Wait()
		n.nothingLeft("a/f", shim)
	})
}

func TestRunOnATerminal(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, func(t *testing.T, n *node, runtime string) {
		for key, secret := range map[string][]string{"": nil, "one": {"--secret", "s"}} {
			args := append([]string{"run", "-it", "--runtime", runtime, "--image", image}, secret...)
			s := n.sit(t, append(args, "--", "sh", "-c", "stty size; echo term=$TERM key=$KEY; exec sh")...)
			s.Await("24 80\r", 1)
			s.Await("# ", 1)
			s.Type("test -t 0 && echo begun; sleep 100000\r")
			s.Await("begun\r", 1)
			n.eventually("it to be interrupted", func() bool {
				s.Type("\x03echo inter''rupted\r")
				return strings.Contains(s.Shown(), "interrupted\r")
			})
			s.Resize(40, 100)
			n.eventually("the new size", func() bool {
				s.Type("stty size\r")
				return strings.Contains(s.Shown(), "40 100\r")
			})
			s.Type("exit 3\r")
			if code := s.status(t); code != 3 || s.Modes() != s.before || !strings.Contains(s.Shown(), "term=vt220 key="+key+"\r") {
				t.Errorf("exit status %d, %q", code, s.Shown())
			}
		}
		if out := n.must("ps", "-a", "-o", "json"); strings.Contains(out, `"run/`) {
			t.Errorf("left: %s", out)
		}
	})
}

// Several at one terminal see the same, and each goes as it likes.
func TestAttachToATerminal(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, func(t *testing.T, n *node, runtime string) {
		first, second := n.sit(t, "attach", "-it", "a/shell"), n.sit(t, "attach", "-i", "a/shell")
		n.eventually("both to see it", func() bool {
			first.Type("echo here''after\r")
			return strings.Contains(first.Shown(), "hereafter\r") && strings.Contains(second.Shown(), "hereafter\r")
		})
		second.Resize(50, 50)
		n.eventually("the size of the last", func() bool {
			second.Type("stty size\r")
			return strings.Contains(first.Shown(), "50 50\r")
		})
		first.Type("\x10\x11")
		if code := first.status(t); code != 0 || first.Modes() != first.before {
			t.Errorf("exit status %d, %q", code, first.Shown())
		}
		for number, want := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGHUP: 129, syscall.SIGINT: 130} {
			third := n.sit(t, "attach", "-it", "a/shell")
			n.eventually("the third to see it", func() bool {
				third.Type("echo thi''rd\r")
				return strings.Contains(third.Shown(), "third\r")
			})
			third.cmd.Process.Signal(number)
			if code := third.status(t); code != want || third.Modes() != third.before {
				t.Errorf("%v: exit status %d, want %d, %q", number, code, want, third.Shown())
			}
			third.Await("detached: a/shell runs on", 1)
		}
		if r := n.runWith("echo from a pi''pe\n", "exec", "-i", "a/shell", "--", "true"); r.code != 0 {
			t.Errorf("exec: %+v", r)
		}
		second.Type("echo on''ly; echo err >&2\r")
		second.Await("only\r", 1)
		second.Await("err\r", 1)
		if out := n.run("logs", "a/shell"); !strings.Contains(out.stdout, "only\r\nerr\r\n") || out.stderr != "" {
			t.Errorf("logs: %+v", out)
		}
		if w := n.get("a/shell"); w.Restarts != 0 {
			t.Errorf("restarted: %+v", w)
		}
		second.Type("exit 7\r")
		if code := second.status(t); code != 7 {
			t.Errorf("exit status %d, %q", code, second.Shown())
		}
		// The next one has the size that the last was given.
		n.await("a/shell", "restarted", func(w workload) bool { return w.State == "running" && w.Restarts > 0 })
		if r := n.run("attach", "-it", "a/f"); r.code != 125 || !strings.Contains(r.stderr, "has no terminal") {
			t.Errorf("without a terminal: %+v", r)
		}
	})
}

// A signal reaches the command at once, however much input it has not read.
func TestSignalsPassInput(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploySleeper()
		const deaf = `trap "echo got it; exit 33" TERM; echo ready; while :; do sleep 0.05; done`
		for _, args := range [][]string{
			{"exec", "-i", "a/f", "--", "sh", "-c", deaf},
			{"run", "-i", "--image", image, "--", "sh", "-c", deaf},
		} {
			cmd := n.command(args...)
			zero, err := os.Open("/dev/zero")
			if err != nil {
				t.Fatal(err)
			}
			defer zero.Close()
			cmd.Stdin = zero
			out, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 6)); err != nil {
				t.Fatal(err)
			}
			n.eventually("the input to wait", func() bool { return readStill(t, cmd.Process.Pid) })
			cmd.Process.Signal(syscall.SIGTERM)
			ended := make(chan struct{})
			go func() { defer close(ended); cmd.Wait() }()
			select {
			case <-ended:
			case <-within(t, patience).Done():
				cmd.Process.Kill()
				<-ended
			}
			if code := cmd.ProcessState.ExitCode(); code != 33 {
				t.Errorf("%v: exit status %d", args[:2], code)
			}
		}
	})
}

// readStill says whether a process has not read anything for a while.
func readStill(t testing.TB, pid int) bool {
	t.Helper()
	reads := func() string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(data), "\n")
		return line
	}
	first := reads()
	<-within(t, 100*1e6).Done()
	return reads() == first
}

// A job that its timeout ended and that exited with 0 is a failure for who is
// attached, as it is for run.
func TestAttachToATimeout(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.deploy(`
app: a
function: f
kind: job
image: {ref: ` + image + `}
command: [sh, -c, 'trap "exit 0" TERM; while :; do sleep 0.05; done']
timeout: 2s
`)
	n.await("a/f", "running", inState("running"))
	if r := n.run("attach", "a/f"); r.code != 124 {
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
}
