package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// Neither another user of the machine nor another container reads a value or
// reaches a socket, even where the node's directory does not keep them out.
func TestNobodyElseReads(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.runWith(canary, "secret", "set", "s", "KEY=-")
	n.deploy(`
app: a
defaults: {image: {ref: `+image+`}, command: [sh, -c, 'exec sleep 100000'], stop: {grace: 0s}}
functions:
  - {function: root, secrets: [{name: s}]}
  - {function: user, secrets: [{name: s}], user: "54321:54321"}
  - {function: other, user: "54321:54321"}
`, "--wait")
	if err := os.Chmod(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stranger := func(script string) string {
		return finish(t, exec.Command("setpriv", "--reuid=54322", "--regid=54322", "--clear-groups", "sh", "-c", script)).stdout
	}
	// Who finds nothing looks where there is something.
	if out := stranger("id -u; ls -d " + n.dir + "/run"); out != "54322\n"+n.dir+"/run\n" {
		t.Fatalf("a stranger sees nothing at all: %q", out)
	}
	for _, f := range []string{"a/root", "a/user"} {
		environ := fmt.Sprintf("/proc/%d/environ", n.get(f).pid())
		if data, err := os.ReadFile(environ); err != nil || !strings.Contains(string(data), canary) {
			t.Errorf("%s is not where root finds the value: %v", environ, err)
		}
		if out := stranger("cat " + environ); out != "" {
			t.Errorf("a stranger reads %s: %q", environ, out)
		}
	}
	private := filepath.Join(n.dir, "run", "private")
	for what, script := range map[string]string{
		"a file with the value":  "grep -rlF " + canary + " " + n.dir,
		"a socket":               "find " + n.dir + " -type s -writable",
		"the private directory":  "ls " + private,
		"the wrapper's socket":   "test -e " + private + "/oci.sock && echo there",
		"a way into a container": "ls -d /proc/[0-9]*/root" + private + " 2>/dev/null",
	} {
		if out := stranger(script); out != "" {
			t.Errorf("a stranger finds %s: %s", what, out)
		}
	}
	for _, user := range []string{"54321", "0"} {
		if out := n.must("exec", "--user", user, "a/other", "--", "sh", "-c", "id -u; cat /proc/self/environ | grep -c PURSER_APP; find /bin -name sh"); out != user+"\n1\n/bin/sh\n" {
			t.Errorf("user %s of another container sees nothing at all: %q", user, out)
		}
		for what, script := range map[string]string{
			"the value": "cat /proc/[0-9]*/environ | grep -F " + canary,
			"the node":  "ls -d " + n.dir,
			"a socket":  "find / -type s 2>/dev/null",
		} {
			if r := n.run("exec", "--user", user, "a/other", "--", "sh", "-c", script); r.stdout != "" {
				t.Errorf("user %s of another container finds %s: %s", user, what, r.stdout)
			}
		}
	}
	if events := n.must("events"); strings.Contains(events, "SecretsReadable") {
		t.Errorf("a warning without a reason:\n%s", events)
	}
}

// A container with secrets whose user ID is an account's of the host is warned of,
// or refused where the configuration says so. One without secrets is left alone.
func TestUserOfTheHost(t *testing.T) {
	t.Parallel()
	n := emptyNode(t, rig.V24)
	n.must("image", "import", boxImage(t))
	n.runWith(canary, "secret", "set", "s", "KEY=-")
	n.must("run", "--image", image, "--user", "1", "--", "true")
	if events := n.must("events"); strings.Contains(events, "SecretsReadable") {
		t.Errorf("a warning without secrets:\n%s", events)
	}
	n.must("run", "--image", image, "--secret", "s", "--user", "1", "--", "true")
	if events := n.must("events"); !strings.Contains(events, "SecretsReadable") || !strings.Contains(events, "user ID 1 is that of the host's account daemon") {
		t.Errorf("no warning:\n%s", events)
	}
	n.stop()
	n.config = "strict_uids = true\n"
	n.start()
	n.must("run", "--image", image, "--user", "1", "--", "true")
	r := n.run("run", "--image", image, "--secret", "s", "--user", "1", "--", "true")
	if r.code == 0 || !strings.Contains(r.stderr, "host's account daemon") || !strings.Contains(r.stderr, "strict_uids") {
		t.Errorf("not refused: %+v", r)
	}
	n.must("run", "--image", image, "--secret", "s", "--user", "54321", "--", "true")
	n.deploy(strings.ReplaceAll(sleeperWithSecret, "RUNTIME", "runc"), "--wait")
	r = n.run("exec", "--user", "1", "a/f", "--", "true")
	if r.code == 0 || !strings.Contains(r.stderr, "host's account daemon") {
		t.Errorf("exec is not refused: %+v", r)
	}
	n.must("exec", "--user", "54321", "a/f", "--", "true")
}
