package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

const canary = "canary-value-b7Gq2xZ9"

func TestSecretCommands(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	r := n.run("secret", "set", "s", "A=visible", "B=@"+file(t, "b", canary))
	if r.code != 0 || !strings.Contains(r.stderr, "other users of this machine can see it") {
		t.Errorf("K=V without a warning: %+v", r)
	}
	n.must("secret", "set", "s", "--from-dotenv", file(t, ".env", "C='with $dollar'\n# comment\nexport D=4\n"))
	n.must("secret", "set", "s", "A-")
	var described struct {
		Secret   struct{ Keys []string }
		Versions []struct {
			Version int
			State   string
			Keys    []string
		}
	}
	n.json(&described, "secret", "show", "s")
	if got := strings.Join(described.Secret.Keys, " "); got != "B C D" {
		t.Errorf("keys: %s", got)
	}
	if len(described.Versions) != 3 || described.Versions[0].State != "current" || described.Versions[0].Version != 3 {
		t.Errorf("versions: %+v", described.Versions)
	}
	n.must("secret", "rollback", "s", "1")
	n.json(&described, "secret", "show", "s")
	if got := strings.Join(described.Versions[0].Keys, " "); got != "A B" || described.Versions[0].Version != 4 {
		t.Errorf("after the rollback: %+v", described.Versions[0])
	}
	n.refused("secret", "rollback", "s", "17")
	n.refused("secret", "set", "s", "1BAD=@"+file(t, "b", "x"))
	n.refused("secret", "show", "none")

	for _, args := range [][]string{
		{"secret", "list"}, {"secret", "list", "-o", "json"}, {"secret", "show", "s"}, {"secret", "show", "s", "-o", "yaml"},
		{"secret", "versions", "s"}, {"events"}, {"__complete", "secret", "show", ""}, {"__complete", "run", "--secret", ""},
		{"events", "-o", "json"}, {"node", "-o", "json"},
	} {
		if r := n.run(args...); strings.Contains(r.stdout+r.stderr, canary) {
			t.Errorf("purser %s shows a value", strings.Join(args, " "))
		}
	}
	out, err := exec.Command("grep", "-rlF", canary, filepath.Join(n.dir, "state"), filepath.Join(n.dir, "log")).CombinedOutput()
	if err == nil {
		t.Errorf("the value lies in plain in %s", out)
	}
	n.must("secret", "delete", "s")
	n.refused("secret", "show", "s")
}

// A version that a workload runs on survives the secret's deletion.
func TestDeleteKeepsWhatIsPinned(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	before := n.deploySleeper()
	n.must("secret", "delete", "s")
	n.must("restart", "a/f")
	n.await("a/f", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != before.pid() })
	n.eventually("its output", func() bool { return n.must("logs", "a/f") == "one\n" })
	n.refused("restart", "--secrets", "a/f")
	n.must("rm", "a/f")
	n.refused("secret", "show", "s")
}

// What the store seals, age opens by hand.
func TestRecoveryWithAge(t *testing.T) {
	t.Parallel()
	n := emptyNode(t, rig.V24)
	n.runWith(canary, "secret", "set", "s", "KEY=-")
	sealed := filepath.Join(n.dir, "state", "secrets", "dev", "s", "1.age")
	r := finish(t, exec.Command("age", "-d", "-i", filepath.Join(n.dir, "state", "identity.age"), sealed))
	if r.code != 0 || !strings.Contains(r.stdout, `"KEY"`) {
		t.Errorf("age -d: %d %s%s", r.code, r.stdout, r.stderr)
	}
	if info, err := os.Stat(filepath.Join(n.dir, "state", "identity.age")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the identity's mode: %v %v", info.Mode(), err)
	}
}

// Whose umask the agent was started under has no say in who reads files of secrets.
func TestSecretFilesUnderAStrictUmask(t *testing.T) {
	t.Parallel()
	strict := filepath.Join(t.TempDir(), "purser")
	if err := os.WriteFile(strict, []byte("#!/bin/sh\numask 077\nexec "+purser(t)+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, version: rig.V24, dir: rig.Dir(t), program: strict}
	n.start()
	t.Cleanup(n.cleanup)
	n.must("image", "import", boxImage(t))
	n.runWith(canary, "secret", "set", "s", "KEY=-")
	for _, path := range []string{"/run/secrets/s", "/run/secrets/deep/er/s"} {
		if got := n.must("run", "--image", image, "--user", "54321", "--secret-file", "s="+path, "--", "cut", "-c2-", path+"/KEY"); strings.TrimSpace(got) != canary[1:] {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// Secrets are delivered as files where asked for, and what cannot be is refused with
// nothing left behind.
func TestSecretFiles(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.runWith(canary, "secret", "set", "s", "KEY=-")
		n.must("secret", "set", "t", "A=@"+file(t, "a", "it's\n$5"), "B=2")
		if got := n.must("run", "--image", image, "--user", "54321", "--secret-file", "s=/run/secrets/s", "--", "sh", "-c", `echo "$(cut -c2- /run/secrets/s/KEY)$KEY"; ls /run/secrets/s`); got != canary[1:]+"\nKEY\n" {
			t.Errorf("--secret-file: %q", got)
		}
		spec := func(secrets, command string) string {
			return file(t, "f.yaml", "app: a\nfunction: f\nkind: job\nimage: {ref: "+image+"}\nsecrets: ["+secrets+"]\ncommand: [sh, -c, '"+command+"']\n")
		}
		got := n.must("run", spec("{name: t, redact: false, env: false, file: {path: /conf/t.env, format: dotenv, mode: \"0440\"}}, {name: s, redact: false, env: false, file: {path: /conf/s.json, format: json}}",
			`. /conf/t.env; printf "%s;%s" "$A" "$B"; cat /conf/s.json; stat -L -c %a /conf/t.env`))
		if got != "it's\n$5;2{\n  \"KEY\": \""+canary+"\"\n}\n440\n" {
			t.Errorf("single files: %q", got)
		}
		for want, path := range map[string]string{
			"--secret-file:": "relative", "must be NAME=DIR": "",
		} {
			arg := "s=" + path
			if path == "" {
				arg = "s"
			}
			if r := n.run("run", "--image", image, "--secret-file", arg, "--", "true"); r.code != 125 || !strings.Contains(r.stderr, want) {
				t.Errorf("%s: %+v", arg, r)
			}
		}
		if r := n.run("run", spec("{name: s, file: {path: /bin/s.json, format: json}}", "true")); r.code != 125 || !strings.Contains(r.stderr, "image localhost/box:1 has files there") {
			t.Errorf("over the image's files: %+v", r)
		}
		if left := n.must("ps", "-a"); strings.Contains(left, "run/") {
			t.Errorf("left: %s", left)
		}
	})
}
