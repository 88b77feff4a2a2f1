package loghelper

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/logs"
)

// Lines are whole however they come; what is too long comes in pieces.
func TestJournaldLines(t *testing.T) {
	var got []string
	j := newJournald(Spec{Journald: true})
	j.sendLine = func(message string, priority systemd.Priority, _ map[string]string) error {
		got = append(got, fmt.Sprint(priority, ":", message))
		return nil
	}
	long := strings.Repeat("x", journaldLine)
	for _, piece := range []string{"on", "e\ntwo\nth", "ree", "\n\n", long, "y\n", "prompt> "} {
		j.send(logs.Stdout, []byte(piece))
	}
	j.send(logs.Stderr, []byte("error\n"))
	j.close()
	j.run()
	want := []string{"6:one", "6:two", "6:three", "6:", "6:" + long, "6:y", "3:error", "6:prompt> "}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %.200q", got)
	}
	newJournald(Spec{}).send(logs.Stdout, []byte("for files alone\n"))
	newJournald(Spec{}).close()
}

// A journal that does not read keeps nobody waiting, and is told of what it missed.
func TestJournaldThatHangs(t *testing.T) {
	var got []string
	j := newJournald(Spec{Journald: true})
	j.sendLine = func(message string, _ systemd.Priority, _ map[string]string) error {
		got = append(got, message)
		return nil
	}
	for range journaldQueue + 3 {
		j.send(logs.Stdout, []byte("line\n"))
	}
	<-j.queue // it reads again
	j.send(logs.Stdout, []byte("last\n"))
	j.close()
	j.run()
	if len(got) != journaldQueue+1 || !strings.HasPrefix(got[len(got)-2], "[purser: 15 bytes of output were not sent") || got[len(got)-1] != "last" {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-2:])
	}
}

// inJournal, as the first argument, has the test binary send something to the journal.
const inJournal = "in-journal"

func sendToJournal() {
	j := newJournald(Spec{Instance: "abc", Journald: true, About: logs.About{Environment: "dev", App: "a", Workload: "a/f"}})
	j.send(logs.Stdout, []byte("to the journal\nwithout an end"))
	j.send(logs.Stderr, []byte("an error\n"))
	j.close()
	j.run()
}

// What a real journald has of it, in mounts of its own.
func TestJournald(t *testing.T) {
	rig.Root(t)
	const script = `set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
[ -s /etc/machine-id ] || { echo 0123456789abcdef0123456789abcdef >/run/id; touch /etc/machine-id; mount --bind /run/id /etc/machine-id; }
/lib/systemd/systemd-journald & daemon=$!
until [ -S /run/systemd/journal/socket ]; do sleep 0.01; kill -0 $daemon; done
"$1" in-journal
journalctl --sync
journalctl -o json --no-pager PURSER_WORKLOAD=a/f
kill $daemon
wait $daemon || true`
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", self)
	cmd.Dir = filepath.Dir(self)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		var e struct{ MESSAGE, PRIORITY, PURSER_APP, PURSER_ENVIRONMENT, PURSER_INSTANCE, SYSLOG_IDENTIFIER string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e))
	}
	want := []string{"{to the journal 6 a dev abc a/f}", "{an error 3 a dev abc a/f}", "{without an end 6 a dev abc a/f}"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}
