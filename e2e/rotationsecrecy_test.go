package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A value that a process has read is not seen of it afterwards either: once its file was put
// back, and another try has begun or none will, it is in no event, in nothing that is told
// of the workload, and not in what is kept.
func TestValueIsNotSeenAfterItsFileIsBack(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good-value-0001")
		n.deploy(`
app: a
functions:
  - function: f
    image: {ref: `+image+`}
    command: [sh, -c, 'trap "exit 0" TERM; while :; do v=$(cat /run/secrets/s/KEY); case $v in bad*) rm -f /tmp/said; touch /tmp/fail; seen=$v;; *) if test -f /tmp/fail; then rm -f /tmp/fail; sleep 2; echo $seen >/tmp/said; fi;; esac; sleep 0.1; done']
    probes: {ready: {exec: {command: [sh, -c, 'test ! -f /tmp/fail || exit 1; ! cat /tmp/said || exit 2']}, period: 100ms, timeout: 10s, failures: 1}}
    secrets: [{name: s, env: false, file: {path: /run/secrets/s}}]
    rotation: {min_ready: 500ms, health_timeout: 1500ms}
    restart: {backoff_min: 100ms, backoff_max: 1s}
    stop: {grace: 5s}
    network: {mode: none}
`, "--wait")
		n.await("a/f", "well", moved(1))
		const bad = "bad-value-7777777"
		n.must("secret", "set", "s", "KEY="+bad)
		n.awaitEvents("SecretQuarantined")
		n.await("a/f", "says what it has read", func(w workload) bool { return strings.Contains(w.Reason, "status 2") })
		for _, where := range [][]string{{"get", "a/f"}, {"events"}} {
			said := n.must(append(where, "-o", "json")...)
			if strings.Contains(said, bad) || !strings.Contains(said, "[secret:s/KEY]") {
				t.Errorf("%s shows\n%s", where[0], said)
			}
		}
		if kept, err := os.ReadFile(n.dir + "/state/state.db"); err != nil || strings.Contains(string(kept), bad) {
			t.Errorf("it is in state.db, or that cannot be read: %v", err)
		}
	})
}

// Files that are gone under a container that is there are looked for now and then, and not
// all the time.
func TestFilesThatAreGone(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good")
		n.deploy("app: a\nfunctions:"+careful("f", "refresh"), "--wait")
		w := n.await("a/f", "well", moved(1))
		if err := os.RemoveAll(filepath.Join(n.dir, "run/private/files", w.Instances[0].ID)); err != nil {
			t.Fatal(err)
		}
		before := strings.Count(n.must("audit", "tail", "-n", "100000"), "\n")
		n.must("secret", "set", "s", "KEY=better")
		n.await("a/f", "waits for its files", func(w workload) bool {
			return strings.Contains(w.Rotation.Reason, "no such container") || strings.Contains(w.Rotation.Reason, "no such file")
		})
		<-time.After(3 * time.Second)
		if after := strings.Count(n.must("audit", "tail", "-n", "100000"), "\n"); after-before > 20 {
			t.Errorf("%d lines of audit have been written meanwhile", after-before)
		}
	})
}
