package runtime

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// imagined are processes by ID, of which a signal ends some.
type imagined map[int]process

func (i imagined) list() (map[int]process, error) { return maps.Clone(i), nil }

func (i imagined) signal(pid int, _ string, sig syscall.Signal) {
	if sig == syscall.SIGKILL {
		delete(i, pid)
	}
}

func (i imagined) await(_ map[int]string, within time.Duration) { time.Sleep(within) }

// looked counts how often it is looked.
type looked struct {
	imagined
	times *int
}

func (l looked) list() (map[int]process, error) {
	*l.times++
	return l.imagined.list()
}

// Nobody looks as long as nobody is to end, and then not all the time.
func TestFamilyIsLookedForSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := 0
		f := familyOf(looked{imagined{10: {parent: 1, group: 10, born: "5"}}, &times}, 10, "5")
		time.Sleep(time.Hour)
		if times > 0 {
			t.Errorf("looked %d times in an hour", times)
		}
		// Who does not heed the end of the terminal has a second.
		if f.hangUp(); times > 2+int(hangUpTime/lookAgain) {
			t.Errorf("looked %d times in a second", times)
		}
	})
}

// The end of the last of several is noticed when it comes, and not before.
func TestAwaitEnd(t *testing.T) {
	pids := map[int]string{1 << 30: ""} // none has that ID
	var first, second *exec.Cmd
	for _, cmd := range []**exec.Cmd{&first, &second} {
		*cmd = exec.Command("sleep", "1000")
		if err := (*cmd).Start(); err != nil {
			t.Fatal(err)
		}
		pids[(*cmd).Process.Pid] = ""
	}
	began := time.Now()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		nodeProcesses{}.await(pids, time.Minute)
	}()
	_, _ = first.Process.Kill(), first.Wait()
	select {
	case <-ended:
		t.Error("one still runs")
	default:
	}
	_, _ = second.Process.Kill(), second.Wait()
	<-ended
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A process that has an ID which was another's is not signalled in its place.
func TestSignal(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	born := familyOn(pid).born
	nodeProcesses{}.signal(pid, born+"0", syscall.SIGKILL)
	nodeProcesses{}.signal(pid, born, syscall.SIGTERM)
	_ = cmd.Wait()
	if got := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != syscall.SIGTERM {
		t.Errorf("ended by %s", got)
	}
	nodeProcesses{}.signal(pid, born, syscall.SIGKILL) // nobody's
}

func BenchmarkLook(b *testing.B) {
	there := 0
	for b.Loop() {
		list, _ := nodeProcesses{}.list()
		there = len(list)
	}
	b.ReportMetric(float64(there), "processes")
}

func TestFamily(t *testing.T) {
	all := imagined{
		1:  {parent: 0, group: 1, born: "0"},
		10: {parent: 1, group: 10, born: "5"},  // the command
		11: {parent: 10, group: 10, born: "6"}, // its child
		12: {parent: 11, group: 12, born: "7"}, // that one's, in a session of its own
		13: {parent: 1, group: 10, born: "7"},  // an orphan of the session
		14: {parent: 1, group: 14, born: "8"},  // somebody else
	}
	f := familyOf(all, 10, "5")
	if !f.look() || len(f.known) != 4 || f.look() {
		t.Fatalf("found %v", f.known)
	}
	// Who has been found stays known when nothing else tells of it any more.
	delete(all, 10)
	delete(all, 11)
	all[12] = process{parent: 1, group: 12, born: "7"}
	all[15] = process{parent: 12, group: 15, born: "9"}
	f.look()
	if got := slices.Sorted(maps.Keys(f.known)); !slices.Equal(got, []int{12, 13, 15}) {
		t.Errorf("found %v", got)
	}
	// IDs that were given anew are somebody else's.
	all[12] = process{parent: 1, group: 12, born: "20"}
	f.look()
	if got := slices.Sorted(maps.Keys(f.known)); !slices.Equal(got, []int{13, 15}) {
		t.Errorf("found %v", got)
	}
	all[10] = process{parent: 1, group: 10, born: "21"}
	all[16] = process{parent: 10, group: 10, born: "22"}
	f.kill()
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []int{1, 10, 12, 14, 16}) {
		t.Errorf("left %v", got)
	}
}

// A family of real processes is found, jobs and orphans included, and killed.
func TestFamilyOnTheNode(t *testing.T) {
	cmd := exec.Command("sh", "-c", "set -m; (sleep 4321 & sleep 4322) & sh -c 'sleep 4323 &'; echo up; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := familyOn(cmd.Process.Pid)
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	// The shell, and three that sleep.
	if !rig.ComesTrue(10*time.Second, func() bool { f.look(); return len(f.known) >= 4 }) {
		t.Fatalf("found %v", f.known)
	}
	f.kill()
	if f.look(); len(f.known) > 0 {
		t.Errorf("left %v", f.known)
	}
	_ = cmd.Wait()
}

// A command whose session was another's that has ended, as on crun, has all of it; one
// in a session that is ours has only its own children.
func TestFamilyInASessionOfAnother(t *testing.T) {
	for name, own := range map[string]bool{"its own": true, "ours": false} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", "sh -c '(sleep 4331 & echo $!); echo $$; exec sleep 4332' &")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: own}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var orphan, leader int
			if _, err := fmt.Fscan(out, &orphan, &leader); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			f := familyOn(leader)
			f.look()
			if _, found := f.known[orphan]; found != own || len(f.known) > 2 {
				t.Errorf("of the orphan %d and %d found %v", orphan, leader, f.known)
			}
			f.kill()
			_ = syscall.Kill(orphan, syscall.SIGKILL)
		})
	}
}

func TestParseStat(t *testing.T) {
	const rest = " 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1 2"
	p, alive, err := parseStat([]byte("42 (a) S (b) S" + rest))
	if err != nil || !alive || p != (process{parent: 7, group: 9, born: "123456"}) {
		t.Errorf("%+v, %v, %v", p, alive, err)
	}
	if p, alive, err := parseStat([]byte("42 (a) Z" + rest)); alive || !p.exiting || err != nil {
		t.Errorf("a zombie: %+v, %v, %v", p, alive, err)
	}
	if p, alive, err := parseStat([]byte("42 (a) S" + strings.Replace(rest, "4194560", "4194564", 1))); !alive || !p.exiting || err != nil {
		t.Errorf("one that is about to end: %+v, %v, %v", p, alive, err)
	}
	for _, bad := range []string{"", "42 a S 1", "42 (a) S 1 2", "42 (a) S x" + rest} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestParsePs(t *testing.T) {
	table := `UID       PID       PPID      PGID      C         TTY       STIME     TIME      CMD
0         1         0         1         0         ?         02:28     0s        sleep
0         3         2         2         0         ?         02:28     10ms      a b
`
	all, err := parsePs([]byte(table))
	if err != nil || len(all) != 2 || all[3] != (process{parent: 2, group: 2}) {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := parsePs([]byte(strings.Replace(table, "PPID", "PARENT", 1))); err == nil {
		t.Error("a table without PPID is read")
	}
}
