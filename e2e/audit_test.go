package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// auditRecord is a record of the trail as -o json shows it.
type auditRecord struct {
	Seq, Of         string
	Action, Outcome string
	Caller          *struct {
		UID, PID int
		Program  string
	}
	Call, Environment, Workload, Instance, Command, Code, Why string
	Exit                                                      *int
	Secrets                                                   []struct {
		Name    string
		Version int
		Keys    []string
	}
}

// trail returns the records of some actions; of all when none is given.
func (n *node) trail(actions ...string) []auditRecord {
	n.t.Helper()
	var answer struct{ Records []auditRecord }
	n.json(&answer, "audit", "tail", "-n", "-1")
	return slices.DeleteFunc(answer.Records, func(r auditRecord) bool {
		return len(actions) > 0 && !slices.Contains(actions, r.Action)
	})
}

// wholeTrail checks that the trail is whole.
func (n *node) wholeTrail() {
	n.t.Helper()
	if r := n.run("audit", "verify"); r.code != 0 || !strings.HasPrefix(r.stdout, "ok: ") {
		n.t.Errorf("the trail is not whole: %d %s%s", r.code, r.stdout, r.stderr)
	}
}

// auditFiles are the files of the trail, oldest first.
func (n *node) auditFiles() []string {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "state/audit/*.jsonl"))
	if err != nil || len(files) == 0 {
		n.t.Fatalf("no files of the audit trail: %v", err)
	}
	return files
}

// Who changes secrets, who is given them and what is run leaves records, with the
// caller and without a value.
func TestAuditTrail(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.runWith(canary, "secret", "set", "s", "KEY=-")
		n.runWith(canary+"2", "secret", "set", "s", "KEY=-", "OTHER=@"+file(t, "other", canary))
		n.must("secret", "rollback", "s", "1")
		n.deploy(sleeper, "--wait")
		w := n.get("a/f")
		n.run("exec", "a/f", "--", "sh", "-c", "exit 3")
		n.refused("exec", "a/f", "--", "echo", canary)
		n.must("restart", "a/f")
		n.await("a/f", "running anew", func(now workload) bool { return now.State == "running" && now.pid() != w.pid() })
		n.must("secret", "delete", "s")
		n.refused("secret", "show", "none")

		var story []string
		for _, r := range n.trail() {
			line := strings.Join([]string{r.Action, r.Outcome, r.Environment, r.Workload}, " ")
			for _, s := range r.Secrets {
				line += fmt.Sprintf(" %s/%d%s", s.Name, s.Version, s.Keys)
			}
			story = append(story, strings.TrimSpace(line+" "+r.Command+" "+r.Code))
			if byItself := slices.Contains([]string{"open", "resolve", "prune"}, r.Action); byItself != (r.Caller == nil) {
				t.Errorf("the caller of %q: %v", line, r.Caller)
			}
			if r.Caller != nil && (r.Caller.UID != os.Getuid() || r.Caller.PID == 0) {
				t.Errorf("the caller of %q: %+v", line, *r.Caller)
			}
			if r.Action == "exec" && r.Outcome == "done" && (r.Exit == nil || *r.Exit != 3) {
				t.Errorf("the exit of %q: %v", line, r.Exit)
			}
			if r.Action == "resolve" && r.Instance == "" {
				t.Errorf("no instance: %+v", r)
			}
		}
		want := []string{
			"open done",
			"set begun dev  s/0[KEY]", "set done dev  s/1[KEY]",
			"set begun dev  s/0[KEY OTHER]", "set done dev  s/2[KEY OTHER]",
			"rollback begun dev  s/1[]", "rollback done dev  s/3[]",
			"launch done dev a/f s/3[]", "resolve done dev a/f s/3[KEY]",
			"exec begun dev a/f s/3[KEY] sh", "exec done dev a/f sh",
			"refused refused dev a/f  invalid_argument",
			"restart done dev a/f s/3[]", "resolve done dev a/f s/3[KEY]",
			"delete begun dev  s/0[]", "delete done dev  s/0[]",
			"refused refused dev  none/0[]  not_found",
		}
		if !slices.Equal(story, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
		}
		n.wholeTrail()
		for _, path := range n.auditFiles() {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for name, form := range rig.Forms(canary) {
				if bytes.Contains(data, form) {
					t.Errorf("the trail has a value, as %s", name)
				}
			}
		}
		if got := n.must("audit", "tail", "-E", "prod", "-o", "json"); !strings.Contains(got, `"records": []`) {
			t.Errorf("records of another environment: %s", got)
		}
	})
}

// Whatever is done to the trail is named, while the agent runs and after it has been
// killed, and leaves an exit status.
func TestAuditVerify(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func([][]byte) [][]byte
		want   string
	}{
		"a byte":  {func(l [][]byte) [][]byte { l[2][40] ^= 1; return l }, "changed"},
		"dropped": {func(l [][]byte) [][]byte { return slices.Delete(l, 2, 3) }, "dropped"},
		"swapped": {func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l }, "reordered"},
		"cut off": {func(l [][]byte) [][]byte { return l[:len(l)-2] }, "truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := emptyNode(t, rig.V24)
			for i := range 3 {
				n.runWith(fmt.Sprint(i), "secret", "set", "s", "KEY=-")
			}
			n.wholeTrail()
			path := n.auditFiles()[0]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.SplitAfter(data, []byte("\n"))
			damaged := bytes.Join(c.damage(lines[:len(lines)-1]), nil)
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			check := func(when string) {
				t.Helper()
				r := n.run("audit", "verify")
				if r.code != 1 || !strings.Contains(r.stdout, c.want) || !strings.Contains(r.stdout, filepath.Base(path)+":") || !strings.Contains(r.stderr, "not as the agent wrote it") {
					t.Errorf("%s: %d %s%s", when, r.code, r.stdout, r.stderr)
				}
			}
			check("while the agent runs")
			n.killAgent()
			check("after the agent was killed")
			n.runWith("more", "secret", "set", "s", "KEY=-")
			check("after more records")
			if r := n.trail("open"); len(r) != 2 {
				t.Errorf("openings: %+v", r)
			}
		})
	}
}

// An agent that is killed again and again while secrets are set, functions launched and
// files rotated leaves a trail that is whole, with every change that was made.
func TestAuditOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	n := &node{t: t, version: rig.V24, dir: rig.Dir(t), config: "[audit]\nfile_size = '64Ki'\nfiles = 1000\n"}
	n.start()
	t.Cleanup(n.cleanup)
	n.must("image", "import", boxImage(t))
	set := 0
	for round := range 4 {
		stop, done := make(chan struct{}), make(chan int)
		go func() {
			count := 0
			for {
				select {
				case <-stop:
					done <- count
					return
				default:
				}
				r := n.runWith(fmt.Sprint(round, count), "secret", "set", fmt.Sprintf("s%d", round), "KEY=-")
				if r.code == 0 {
					count++
				}
			}
		}()
		n.run("run", "--image", image, "--", "true")
		n.killAgent()
		close(stop)
		set += <-done
		n.wholeTrail()
	}
	counts := map[string]int{}
	for _, r := range n.trail("set") {
		counts[r.Outcome]++
	}
	// One that was killed before it answered may have been made.
	if ended := counts["done"] + counts["unchanged"]; ended < set || counts["begun"] < ended || counts["begun"] > set+2*4 {
		t.Errorf("%d sets have succeeded, and the trail has %v", set, counts)
	}
	if opened := n.trail("open"); len(opened) != 5 {
		t.Errorf("%d openings", len(opened))
	}
}

// On a full disk no secret is changed; launches go on, and are said to be without a
// record.
func TestAuditOnAFullDisk(t *testing.T) {
	t.Parallel()
	for settings, closed := range map[string]bool{"": true, "[audit]\nfail_closed = false\n": false} {
		t.Run(fmt.Sprintf("closed %v", closed), func(t *testing.T) {
			t.Parallel()
			n := &node{t: t, version: rig.V24, dir: rig.Dir(t), config: settings}
			disk := filepath.Join(n.dir, "state/audit")
			if err := os.MkdirAll(disk, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
				t.Fatal(err)
			}
			// A node that has ended leaves no mount below its directory.
			t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
			n.start()
			t.Cleanup(n.cleanup)
			n.must("image", "import", boxImage(t))
			n.runWith("one", "secret", "set", "s", "KEY=-")
			n.fillDisk(disk)
			lost := len(n.trail("lost"))

			r := n.runWith("two", "secret", "set", "s", "KEY=-")
			if refused := r.code != 0 && strings.Contains(r.stderr, "the audit trail cannot be written") && strings.Contains(r.stderr, "no space left"); refused != closed {
				t.Errorf("a set on a full disk: %+v", r)
			}
			wanted := map[bool]string{true: "one", false: "two"}[closed]
			if got := n.must("run", "--image", image, "--secret", "s", "--", "sh", "-c", "echo $KEY"); got != wanted+"\n" {
				t.Errorf("a launch on a full disk: %q", got)
			}
			if events := n.must("events"); !strings.Contains(events, "AuditFailing") {
				t.Errorf("events:\n%s", events)
			}
			if n.metric("purser_audit_failures_total") == "0" {
				t.Error("no failure is counted")
			}
			if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
				t.Fatal(err)
			}
			if r := n.runWith("three", "secret", "set", "s", "KEY=-"); r.code != 0 {
				t.Errorf("a set once there is room: %+v", r)
			}
			if records := n.trail("lost"); len(records) != lost+1 {
				t.Errorf("what was lost: %+v", records)
			}
			n.awaitEvents("AuditResumed")
			n.wholeTrail()
		})
	}
}

// fillDisk leaves no room on a file system but that in the files' last blocks, which
// it fills with records.
func (n *node) fillDisk(dir string) {
	n.t.Helper()
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	// A record of what was lost is the shortest of all, and may still find room.
	n.eventually("the trail's last block to be full", func() bool {
		before := n.auditSize()
		n.runWith("one", "secret", "set", "s", "KEY=-")
		n.run("run", "--image", image, "--", "true")
		return n.metric("purser_audit_failures_total") != "0" && n.auditSize() == before
	})
}

// auditSize is how much the trail's files hold.
func (n *node) auditSize() int64 {
	n.t.Helper()
	size := int64(0)
	for _, path := range n.auditFiles() {
		info, err := os.Stat(path)
		if err != nil {
			n.t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}
