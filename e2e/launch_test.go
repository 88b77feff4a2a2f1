package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The layers of an environment, lowest to highest, as a function sees them.
func TestPrecedence(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "first", "--from-json", file(t, "s.json", `{"LAYERED3": "first", "LAYERED4": "first", "LAYERED5": "first", "ONLY_FIRST": "1", "OTHER": "x"}`))
		n.runWith("second", "secret", "set", "second", "LAYERED4=-")
		n.must("secret", "set", "second", "--from-json", file(t, "s.json", `{"LAYERED5": "second"}`))
		n.deploy(`
app: a
functions:
  - function: f
    kind: job
    image:
      ref: ` + image + `
      env: {LAYERED: image.env, LAYERED2: image.env, LAYERED3: image.env, LAYERED4: image.env, LAYERED5: image.env}
    secrets:
      - {name: first, keys: {LAYERED3: LAYERED3, LAYERED4: LAYERED4, LAYERED5: LAYERED5, ONLY_FIRST: RENAMED}}
      - {name: second, required_keys: [LAYERED4], redact: false}
    env: {LAYERED5: env}
    command: [env]
`)
		n.must("wait", "a/f")
		got := strings.Split(strings.TrimSpace(n.must("logs", "a/f")), "\n")
		slices.Sort(got)
		instance := n.get("a/f").LastExit.Instance
		want := []string{
			"FROM_IMAGE=image", "HOME=/root", "LAYERED=image.env", "LAYERED2=image.env", "LAYERED3=first",
			"LAYERED4=second", "LAYERED5=env", "PATH=/bin", "PURSER_APP=a", "PURSER_ENVIRONMENT=dev",
			"PURSER_FUNCTION=f", "PURSER_INSTANCE=" + instance, "PURSER_WORKLOAD=a/f", "RENAMED=1",
		}
		slices.Sort(want) // '=' comes after digits
		if !slices.Equal(got, want) {
			t.Errorf("the environment is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if events := n.must("events"); !strings.Contains(events, "SecretHidden") {
			t.Errorf("no event tells that env hides a secret's key:\n%s", events)
		}
	})
}

func TestExitStatuses(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		for _, tc := range []struct {
			command []string
			code    int
			stderr  string
		}{
			{[]string{"true"}, 0, ""},
			{[]string{"false"}, 1, ""},
			{[]string{"sh", "-c", "exit 42"}, 42, ""},
			{[]string{"/etc/passwd"}, 126, "permission denied"},
			{[]string{"no-such-command"}, 127, "not found"},
			{[]string{"sh", "-c", "sleep 100 & kill -9 $!; wait $!"}, 137, ""},
		} {
			r := n.run(append([]string{"run", "--image", image, "--"}, tc.command...)...)
			if r.code != tc.code || !strings.Contains(r.stderr, tc.stderr) {
				t.Errorf("%v: exit status %d, want %d; stderr %q", tc.command, r.code, tc.code, r.stderr)
			}
		}
		if r := n.run("run", "--image", "localhost/none:1", "--", "true"); r.code != 125 || !strings.Contains(r.stderr, "image import") {
			t.Errorf("a missing image: exit status %d, %q", r.code, r.stderr)
		}
		if out := n.must("ps", "-a", "-o", "json"); !strings.Contains(out, `"workloads": []`) {
			t.Errorf("run left workloads: %s", out)
		}
		n.eventually("no container to be left", func() bool { return len(n.containers()) == 0 })
	})
}

// Output reaches run byte for byte, and nothing else does.
func TestRunOutput(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		r := n.run("run", "--image", image, "--", "sh", "-c", `printf 'a\0b\377no newline'; printf 'error\n' >&2`)
		if r.stdout != "a\x00b\xffno newline" || r.stderr != "error\n" || r.code != 0 {
			t.Errorf("got %q, %q, %d", r.stdout, r.stderr, r.code)
		}
		r = n.run("run", "--image", image, "--", "sh", "-c", "seq 1 100000")
		if want := 588895; len(r.stdout) != want {
			t.Errorf("%d bytes of %d", len(r.stdout), want)
		}
		r = n.runWith("from stdin", "run", "-i", "--image", image, "--", "cat")
		if r.stdout != "from stdin" || r.code != 0 {
			t.Errorf("stdin: got %q, %q, %d", r.stdout, r.stderr, r.code)
		}
	})
}

func TestFiftyAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				r := n.run("run", "--image", image, "-e", fmt.Sprintf("N=%d", i), "--", "sh", "-c", "echo $N; exit $((N % 7))")
				if r.stdout != fmt.Sprintln(i) || r.code != i%7 {
					t.Errorf("launch %d: %q, exit status %d, %s", i, r.stdout, r.code, r.stderr)
				}
			})
		}
		all.Wait()
		n.eventually("all containers to be gone", func() bool { return len(n.containers()) == 0 })
		if left := n.containerd("snapshots", "list"); len(left) != 2 {
			t.Errorf("snapshots besides the image's one layer and the view of it: %v", left)
		}
	})
}

func TestMistakesInAnAppFile(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		path := file(t, "wrong.yaml", `app: a
defaults:
  image: {ref: localhost/box:1}
functions:
  - function: f
    kind: daemon
    comand: [true]
  - function: g
    resources: {memory: lots}
`)
		text := n.refused("deploy", path)
		for _, want := range []string{"wrong.yaml:6:", "wrong.yaml:7:", "wrong.yaml:9:", "kind", "comand", "memory"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if out := n.must("ps", "-a", "-A", "-o", "json"); !strings.Contains(out, `"workloads": []`) {
			t.Errorf("something was launched: %s", out)
		}
	})
}

// The same app in two environments, each with its own secret of one name.
func TestEnvironmentsSideBySide(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		app := `
app: a
environment: ${APP_ENV}
functions:
  - function: f
    image: {ref: ` + image + `}
    secrets: [{name: s, required_keys: [KEY], redact: false}]
    command: [sh, -c, 'echo $KEY; exec sleep 1000']
    stop: {grace: 0s}
`
		path := file(t, "app.yaml", app)
		for _, env := range []string{"dev", "prod"} {
			r := n.runWith("key of "+env, "secret", "set", "-E", env, "s", "KEY=-")
			if r.code != 0 {
				t.Fatal(r.stderr)
			}
			cmd := n.command("deploy", path, "--wait")
			cmd.Env = append(cmd.Env, "APP_ENV="+env)
			if r := finish(t, cmd); r.code != 0 {
				t.Fatal(r.stderr)
			}
		}
		for _, env := range []string{"dev", "prod"} {
			n.eventually("the output of "+env, func() bool { return n.must("logs", "-E", env, "a/f") == "key of "+env+"\n" })
		}
		if out := n.must("environment", "list", "-o", "json"); !strings.Contains(out, `"dev"`) || !strings.Contains(out, `"prod"`) {
			t.Errorf("environments: %s", out)
		}
		cmd := n.command("deploy", path, "-E", "staging")
		cmd.Env = append(cmd.Env, "APP_ENV=dev")
		if r := finish(t, cmd); r.code == 0 || !strings.Contains(r.stderr, "staging") {
			t.Errorf("an -E that contradicts the file: %d, %s", r.code, r.stderr)
		}
		n.must("rm", "-E", "prod", "a/f")
		if w := n.get("a/f"); w.State != "running" {
			t.Errorf("removing prod's made dev's %s", w.State)
		}
	})
}

// A launch that lacks secrets is refused before anything is made, and says all
// that is missing.
func TestMissingSecrets(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.runWith("x", "secret", "set", "have", "ONE=-")
		app := `
app: a
functions:
  - function: f
    image: {ref: ` + image + `}
    secrets:
      - {name: have, required_keys: [ONE, TWO, THREE]}
      - {name: lack}
      - {name: whatever, optional: true}
  - function: g
    image: {ref: 'localhost/none:1'}
    runtime: none
    secrets: [{name: absent}]
`
		text := n.refused("deploy", file(t, "app.yaml", app))
		for _, want := range []string{"dev", "have", "TWO", "THREE", "lack", "localhost/none:1", "runtime: ", "absent"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if strings.Contains(text, "ONE") && !strings.Contains(text, "ONE=") {
			t.Errorf("a key that is there is called missing:\n%s", text)
		}
		if rows := n.containers(); len(rows) != 0 {
			t.Errorf("containers were made: %v", rows)
		}
	})
}

// What a container may do, seen from inside.
func TestSecureByDefault(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		out := n.must("run", "--image", image, "--", "cat", "/proc/self/status")
		for _, want := range []string{`NoNewPrivs:\s+1`, `Seccomp:\s+2`, `CapEff:\s+0000000080`} {
			if want == `CapEff:\s+0000000080` {
				continue // compared below
			}
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("%s is not in\n%s", want, out)
			}
		}
		caps := regexp.MustCompile(`CapEff:\s+(\w+)`).FindStringSubmatch(out)
		var bits uint64
		fmt.Sscanf(caps[1], "%x", &bits)
		for name, bit := range map[string]int{"NET_RAW": 13, "SYS_ADMIN": 21, "MKNOD": 27, "AUDIT_WRITE": 29, "SYS_PTRACE": 19} {
			if bits&(1<<bit) != 0 {
				t.Errorf("the container has CAP_%s", name)
			}
		}
		if limits := n.must("run", "--image", image, "--", "sh", "-c", "ulimit -c; ulimit -Hc"); strings.TrimSpace(limits) != "0\n0" && !strings.Contains(n.must("run", "--image", image, "--", "cat", "/proc/self/limits"), "Max core file size        1") {
			t.Errorf("core limits: %s", limits)
		}
		if out := n.must("run", "--image", image, "--", "ls", "/sys/class/net"); strings.TrimSpace(out) != "lo" {
			t.Errorf("interfaces without a network: %q", out)
		}
		if r := n.run("run", "--image", image, "--", "sh", "-c", "echo x > /proc/sysrq-trigger"); r.code == 0 {
			t.Error("the kernel can be commanded from a container")
		}
		if out := n.must("run", "--image", image, "--user", "app", "--", "id"); !strings.Contains(out, "uid=1000(app) gid=1000(app)") || !strings.Contains(out, "2000(extra)") {
			t.Errorf("names of users: %q", out)
		}
	})
}

// A command that cannot run ends as in a shell, on every runtime, and is named.
func TestCommandsThatCannotRun(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, func(t *testing.T, n *node, runtime string) {
		for command, code := range map[string]int{
			"no-such-command": 127, "/no/such": 127, "./no-such": 127, "/etc/passwd": 126, "/bin": 126, "": 127,
		} {
			for _, args := range [][]string{{"run", "--runtime", runtime, "--image", image}, {"exec", "a/f"}} {
				r := n.run(append(args, "--", command)...)
				if r.code != code || !strings.Contains(r.stderr, strings.TrimPrefix(command, ".")) || strings.Contains(r.stderr, "OCI runtime") {
					t.Errorf("%s %q: exit status %d, want %d; %s", args[0], command, r.code, code, r.stderr)
				}
			}
		}
	})
}
