package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// swapVolume makes a volume have one key, as the kubelet does.
func swapVolume(t *testing.T, volume, key, value string) {
	t.Helper()
	before, _ := os.Readlink(filepath.Join(volume, "..data"))
	next := fmt.Sprintf("..2026_%s", value)
	at := filepath.Join(volume, next)
	steps := []func() error{
		func() error { return os.MkdirAll(at, 0o700) },
		func() error { return os.WriteFile(filepath.Join(at, key), []byte(value), 0o600) },
		func() error { return os.Symlink(next, filepath.Join(volume, "..data_tmp")) },
		func() error { return os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")) },
	}
	if before == "" {
		steps = append(steps, func() error { return os.Symlink("..data/"+key, filepath.Join(volume, key)) })
	} else {
		steps = append(steps, func() error { return os.RemoveAll(filepath.Join(volume, before)) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitSecret waits for a version of secret s, from a source.
func (n *node) awaitSecret(version int, source string) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("version %d of the secret", version), func() bool {
		var list struct {
			Secrets []struct {
				Name, Source string
				Version      int
			}
		}
		if err := n.call("Secrets/List", "{}", &list); err != nil {
			n.t.Fatal(err)
		}
		return len(list.Secrets) == 1 && list.Secrets[0].Version == version && list.Secrets[0].Source == source
	})
}

// mirrored starts a node whose secrets are a directory's.
func mirrored(t *testing.T, v rig.Version, dir string) *node {
	t.Helper()
	n := emptyNodeWith(t, v, fmt.Sprintf("[sources.cluster]\ntype = 'dir'\npath = %q\nenvironment = 'dev'\n", dir))
	n.must("image", "import", boxImage(t))
	return n
}

// A directory as Kubernetes writes it feeds a workload, whatever becomes of the agent.
func TestSecretsFromADirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "secrets")
	swapVolume(t, filepath.Join(dir, "s"), "KEY", "one")
	n := mirrored(t, rig.V24, dir)
	n.awaitSecret(1, "cluster")
	n.deploy(sleeper, "--wait")
	before := n.get("a/f")
	n.eventually("its output", func() bool { return n.must("logs", "a/f") == "one\n" })
	if text := n.refused("secret", "set", "s", "KEY=x"); !strings.Contains(text, "source cluster") || !strings.Contains(text, dir) {
		t.Errorf("the refusal says %s", text)
	}

	n.betweenAgents(func() {})
	n.awaitSecret(1, "cluster")
	if after := n.get("a/f"); after.pid() != before.pid() {
		t.Errorf("the agent was restarted, and %+v became %+v", before, after)
	}
	n.betweenAgents(func() { swapVolume(t, filepath.Join(dir, "s"), "KEY", "two") })
	n.awaitSecret(2, "cluster")
	n.must("restart", "--secrets", "a/f")
	n.eventually("the second version's output", func() bool { return n.must("logs", "a/f") == "two\n" })
}

// A certificate that Kubernetes mounts is in the container under the name that servers look
// for, and a new one is there without a restart.
func TestCertificateFromAVolume(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	swapVolume(t, dir, "tls.crt", "one")
	n := emptyNodeWith(t, rig.V24, fmt.Sprintf("[sources.web]\ntype = 'dir'\npath = %q\nenvironment = 'dev'\nsecret = 's'\n", dir))
	n.must("image", "import", boxImage(t))
	n.awaitSecret(1, "web")
	n.deploy(strings.Replace(sleeper, "{name: s}", "{name: s, env: false, keys: {tls_crt: tls.crt}, file: {path: /etc/tls}}", 1), "--wait")
	before := n.get("a/f")
	if got := n.must("exec", "a/f", "--", "cat", "/etc/tls/tls.crt"); got != "one" {
		t.Errorf("got %q", got)
	}
	swapVolume(t, dir, "tls.crt", "two")
	n.eventually("the second certificate", func() bool { return n.must("exec", "a/f", "--", "cat", "/etc/tls/tls.crt") == "two" })
	if after := n.get("a/f"); after.pid() != before.pid() {
		t.Errorf("%+v became %+v", before, after)
	}
}
