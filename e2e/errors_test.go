package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// wrongInput is something that a person gets wrong, and what has to be in the answer.
type wrongInput struct {
	args  []string
	stdin string
	want  []string // parts of standard error
}

// wrongInputs needs a node with a secret s of the key KEY, in dev, and a workload a/f
// that runs.
func wrongInputs(t *testing.T) map[string]wrongInput {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) string { return file(t, name, content) }
	spec := func(rest string) string {
		return write("spec.yaml", "app: w\nfunction: f\nimage: {ref: "+image+"}\n"+rest)
	}
	run := func(more ...string) []string {
		return append(append([]string{"run", "--image", image}, more...), "--", "true")
	}
	return map[string]wrongInput{
		// files
		"no such file":        {args: []string{"deploy", filepath.Join(dir, "none.yaml")}, want: []string{"none.yaml", "no such file"}},
		"a directory":         {args: []string{"deploy", dir}, want: []string{dir, "is a directory"}},
		"an empty file":       {args: []string{"deploy", write("empty.yaml", "")}, want: []string{"empty.yaml:1:1", "says nothing"}},
		"not YAML":            {args: []string{"deploy", write("bad.yaml", "app: [")}, want: []string{"bad.yaml:2:1"}},
		"unknown field":       {args: []string{"deploy", spec("comand: [x]\n")}, want: []string{"spec.yaml:4:1", "comand", "did you mean command"}},
		"wrong type":          {args: []string{"deploy", spec("command: true\n")}, want: []string{"spec.yaml:4:10", "command", "must be a list"}},
		"repeated field":      {args: []string{"deploy", spec("user: a\nuser: b\n")}, want: []string{"spec.yaml:5:1", "given twice, first on line 4"}},
		"out of bounds":       {args: []string{"deploy", spec("resources: {memory: 1Ki}\n")}, want: []string{"spec.yaml:4:21", "at least 6Mi"}},
		"unset variable":      {args: []string{"deploy", spec("env: {A: \"${NOT_SET_ANYWHERE}\"}\n")}, want: []string{"spec.yaml:4", "NOT_SET_ANYWHERE"}},
		"no functions":        {args: []string{"deploy", write("none.yaml", "app: w\nfunctions: []\n")}, want: []string{"none.yaml", "functions"}},
		"two of one function": {args: []string{"deploy", write("two.yaml", "app: w\ndefaults: {image: {ref: b}}\nfunctions:\n- {function: f}\n- {function: f}\n")}, want: []string{"two.yaml:5", "functions[1].function"}},
		"another environment": {args: []string{"deploy", "-E", "prod", spec("environment: dev\n")}, want: []string{"-E", "prod", "dev"}},
		"reserved variable":   {args: []string{"deploy", spec("env: {PURSER_APP: x}\n")}, want: []string{"spec.yaml:4", "purser alone sets"}},
		"no way to a secret":  {args: []string{"deploy", spec("secrets: [{name: s, env: false}]\n")}, want: []string{"spec.yaml:4", "needs a file"}},
		"a secret's file in /": {args: []string{"deploy", spec("secrets: [{name: s, file: {path: /s.json, format: json}}]\n")},
			want: []string{"spec.yaml:4", "a directory of its own, such as /run/secrets"}},

		// flags and arguments
		"unknown command":      {args: []string{"depoly"}, want: []string{"depoly", "deploy"}},
		"unknown flag":         {args: []string{"ps", "--al"}, want: []string{"--al", "--help"}},
		"flag without a value": {args: []string{"run", "--image"}, want: []string{"--image"}},
		"bad duration":         {args: run("--timeout", "5 minutes"), want: []string{"--timeout", "such as 500ms, 30s"}},
		"bad memory":           {args: run("--memory", "256MB"), want: []string{"--memory", "256Mi"}},
		"bad output":           {args: []string{"ps", "-o", "xml"}, want: []string{"xml", "table, json or yaml"}},
		"bad variable":         {args: run("-e", "A B=c"), want: []string{"--env", "K=V"}},
		"no arguments":         {args: []string{"get"}, want: []string{"ID"}},
		"too many arguments":   {args: []string{"get", "a/f", "b"}, want: []string{"b"}},
		"no image":             {args: []string{"run", "--", "true"}, want: []string{"--image REF"}},
		"bad log time":         {args: []string{"logs", "--since", "yesterday", "a/f"}, want: []string{"--since", "yesterday"}},
		"bad signal":           {args: []string{"signal", "a/f", "SIGNOPE"}, want: []string{"SIGNOPE"}},

		// names
		"no such workload":      {args: []string{"get", "a/g"}, want: []string{"a/g", "dev", "a/f"}},
		"in no environment":     {args: []string{"get", "-E", "prod", "a/f"}, want: []string{"prod", "dev"}},
		"no such app":           {args: []string{"app", "history", "b"}, want: []string{"b", "dev"}},
		"bad name of a secret":  {args: []string{"secret", "set", "a b", "K=-"}, stdin: "x", want: []string{"letters"}},
		"bad environment":       {args: []string{"ps", "-E", "a b"}, want: []string{"environment", "letters"}},
		"no such user":          {args: run("--user", "nobody-here"), want: []string{"nobody-here"}},
		"no such runtime":       {args: run("--runtime", "kata"), want: []string{"kata", "there is: "}},
		"a mount of no one's":   {args: []string{"deploy", spec("mounts: [{source: /etc, target: /x}]\n")}, want: []string{"/etc", "allowed_roots"}},
		"no such working image": {args: []string{"image", "rm", "localhost/none:1"}, want: []string{"localhost/none:1"}},

		// secrets
		"no such secret":       {args: run("--secret", "missing"), want: []string{"secret missing does not exist", "purser secret set -E dev missing KEY=-"}},
		"no such key":          {args: []string{"deploy", spec("secrets: [{name: s, required_keys: [OTHER]}]\n")}, want: []string{"OTHER", "purser secret set -E dev s OTHER=-"}},
		"no such version":      {args: []string{"deploy", spec("secrets: [{name: s, version: 9}]\n")}, want: []string{"s", "9"}},
		"key of a bad name":    {args: []string{"secret", "set", "t", "1A=-"}, stdin: "x", want: []string{"argument 1", "letters"}},
		"nothing to set":       {args: []string{"secret", "set", "t"}, want: []string{"t", "K=-"}},
		"empty standard input": {args: []string{"secret", "set", "t", "K=-"}, want: []string{"K", "standard input is empty"}},
		"no such value file":   {args: []string{"secret", "set", "t", "K=@" + filepath.Join(dir, "none")}, want: []string{"K", "no such file"}},
		"bad dotenv":           {args: []string{"secret", "set", "t", "--from-dotenv", write("bad.env", "A=1\nB\n")}, want: []string{"bad.env", "K=V"}},
		"bad JSON":             {args: []string{"secret", "set", "t", "--from-json", write("bad.json", "{\"A\": [1]}")}, want: []string{"bad.json", "A must be a string"}},
		"secret in use":        {args: []string{"secret", "rollback", "s", "7"}, want: []string{"s", "7"}},
		"files over the image": {args: []string{"deploy", spec("secrets: [{name: s, file: {path: /bin/x.json, format: json}}]\n")}, want: []string{"/bin", "has files there"}},
		"not a file's secret":  {args: run("--secret-file", "s"), want: []string{"--secret-file s", "NAME=DIR"}},

		// images
		"an image that is not there": {args: []string{"run", "--image", "localhost/box:2", "--", "true"}, want: []string{"localhost/box:2", "not on this node", "purser image import"}},
		"a registry of no one's":     {args: []string{"run", "--image", "registry.invalid/box:1", "--", "true"}, want: []string{"no such host: image registry.invalid/box:1", "DNS"}},
		"a registry that is down":    {args: []string{"image", "pull", "127.0.0.1:1/box:1"}, want: []string{"connection refused: image 127.0.0.1:1/box:1", "port"}},
		"a pull of no reference":     {args: []string{"image", "pull", "Box"}, want: []string{"Box"}},
		"a platform of no kind":      {args: []string{"image", "pull", "box", "--platform", "arm"}, want: []string{"--platform", "linux/arm64"}},
		"a policy of no kind":        {args: run("--pull", "sometimes"), want: []string{"--pull", "if_not_present, always or never"}},
		"a reference in capitals":    {args: []string{"run", "--image", "localhost/Box:1", "--", "true"}, want: []string{"--image", "lower case"}},
		"no archive":                 {args: []string{"image", "import", write("not.tar", "this is no archive")}, want: []string{"not.tar"}},
		"a corrupt archive":          {args: []string{"image", "import", corrupt(t)}, want: []string{"corrupt.tar"}},
		"another architecture":       {args: []string{"image", "import", foreign(t)}, want: []string{"arm64", "amd64"}},
		"no such archive":            {args: []string{"image", "import", filepath.Join(dir, "none.tar")}, want: []string{"none.tar", "no such file"}},

		// sockets
		"no socket":         {args: []string{"--host", "unix://" + dir + "/none.sock", "ps"}, want: []string{"no agent answers", "none.sock", "purser dev"}},
		"a host of no kind": {args: []string{"--host", "ftp://x", "ps"}, want: []string{"ftp://x", "want unix:///path"}},
		"a file, no socket": {args: []string{"--host", "unix://" + write("plain.sock", ""), "ps"}, want: []string{"no agent answers"}},
	}
}

// corrupt is an archive that breaks off.
func corrupt(t *testing.T) string {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "whole.tar")
	if r := finish(t, exec.Command("tar", "-C", boxImage(t), "-cf", whole, ".")); r.code != 0 {
		t.Fatal(r.stderr)
	}
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, "corrupt.tar", string(data[:len(data)/2]))
}

// foreign is an image for another architecture than any node's that the tests run on.
func foreign(t *testing.T) string {
	t.Helper()
	return rig.Busybox(t, rig.Image{Ref: "localhost/foreign:1", Arch: "arm64"})
}

// A wrong input gets one clear answer that says what to do, a status, and leaves
// nothing behind.
func TestWrongInputs(t *testing.T) {
	n := newNode(t, rig.V24)
	n.runWith(canary, "secret", "set", "s", "KEY=-")
	n.deploy(`
app: a
functions:
  - {function: f, image: {ref: `+image+`}, command: [sh, -c, 'exec sleep 100000'], stop: {grace: 0s}}
`, "--wait")
	state := func() string {
		return n.must("ps", "-a", "-o", "json") + n.must("secret", "list", "-o", "json") + n.must("image", "list", "-o", "json") + strings.Join(n.containers(), " ")
	}
	before := state()
	for name, c := range wrongInputs(t) {
		t.Run(name, func(t *testing.T) {
			r := n.runWith(c.stdin, c.args...)
			if r.code == 0 || r.stdout != "" {
				t.Errorf("purser %s: status %d, stdout %q", strings.Join(c.args, " "), r.code, r.stdout)
			}
			for _, want := range c.want {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("purser %s: no %q in\n%s", strings.Join(c.args, " "), want, r.stderr)
				}
			}
			if !strings.HasPrefix(r.stderr, "purser: ") && !strings.HasPrefix(r.stderr, "/") || strings.Contains(r.stderr, "goroutine ") || strings.Count(r.stderr, "\n") > 6 {
				t.Errorf("purser %s does not answer in a few clear lines:\n%s", strings.Join(c.args, " "), r.stderr)
			}
			if strings.Contains(r.stderr, canary) {
				t.Errorf("a value is in the answer: %s", r.stderr)
			}
		})
	}
	if after := state(); after != before {
		t.Errorf("something is left:\n%s\nbefore:\n%s", after, before)
	}
}

// A disk that is full, and a state directory that cannot be written, are named, lose
// nothing, and are over when they are.
func TestFullAndReadOnlyDisk(t *testing.T) {
	d := makeDisk(t, rig.V24)
	d.begin(t)
	d.runWith("one", "secret", "set", "s", "KEY=-")
	// ext4 keeps some blocks for root, which this is: all of them are taken.
	full := filepath.Join(d.mount, "full")
	_ = exec.Command("dd", "if=/dev/zero", "of="+full, "bs=1M").Run()
	_ = exec.Command("dd", "if=/dev/zero", "of="+full+"2", "bs=512").Run()
	big := file(t, "big", strings.Repeat("x", 200_000))
	for _, args := range [][]string{{"secret", "set", "s", "KEY=@" + big}, {"image", "import", "--name", "localhost/again:1", boxImage(t)}} {
		if text := d.refused(args...); !strings.Contains(text, "no space left on device") {
			t.Errorf("purser %s: %s", args[0], text)
		}
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if got := d.must("secret", "show", "s", "-o", "json"); !strings.Contains(got, `"version": 1`) || strings.Contains(got, `"version": 2`) {
		t.Errorf("after a full disk: %s", got)
	}
	d.must("run", "--image", image, "--secret", "s", "--", "sh", "-c", `test "$KEY" = one`)
	state := filepath.Join(d.dir, "state")
	if err := unix.Mount(state, state, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(state, unix.MNT_DETACH)
	if err := unix.Mount("", state, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if text := d.refused("secret", "set", "s", "KEY=@"+file(t, "two", "two")); !strings.Contains(text, "read-only file system") {
		t.Errorf("read-only: %s", text)
	}
	if err := unix.Unmount(state, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	d.must("secret", "set", "s", "KEY=@"+file(t, "two", "two"))
}
