package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// wrongInput is something that a person gets wrong, and what has to be in the answer.
type wrongInput struct {
	args  []string
	stdin string
	// code is the exit status; the one that the command has for errors when 0.
	code int
	// nobody is set for one by somebody who is not root.
	nobody bool
	// evident is set where what is wrong says what to do.
	evident bool
	want    []string // parts of standard error
}

// advice is how an answer says what to do: the rule that was broken, what was meant,
// the command or flag that helps.
var advice = regexp.MustCompile(`\b(must|needs|did you mean|see purser|purser [a-z]+ [a-z-]+|sudo|use|give|check|leave|name another|make it|remove|import one|want|alone sets)\b|there is: |is no field here|does it run\?`)

// status is the exit status that is documented: 125 of commands that stand in for a
// function, 1 of others.
func (c wrongInput) status() int {
	switch {
	case c.code != 0:
		return c.code
	case slices.Contains([]string{"run", "exec", "attach", "wait"}, c.args[0]):
		return 125
	}
	return 1
}

// answer is what purser says to it.
func (n *node) answer(t *testing.T, c wrongInput) result {
	t.Helper()
	cmd := n.command(c.args...)
	cmd.Stdin = strings.NewReader(c.stdin)
	if c.nobody {
		cmd.Path = forAll(t, n.purser())
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return finish(t, cmd)
}

// forAll copies a file to where everybody gets at it.
func forAll(t *testing.T, path string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "purser-for-all-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	copied := filepath.Join(dir, filepath.Base(path))
	// By another process: what others start meanwhile would have it open for writing, and it
	// could not be executed.
	out, err := exec.Command("cp", path, copied).CombinedOutput()
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.Chmod(copied, 0o755)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return copied
}

// traces are what a command may leave: what the node lists, what containerd has, and
// the names of files, mounts and shims.
func (n *node) traces() string {
	n.t.Helper()
	var all []string
	for _, list := range [][]string{{"ps", "-a", "-A"}, {"secret", "list", "-A"}, {"image", "list"}, {"volume", "list", "-A"}, {"app", "list", "-A"}} {
		all = append(all, n.must(append(list, "-o", "json")...))
	}
	for _, list := range [][]string{{"containers", "list"}, {"tasks", "list"}, {"snapshots", "list"}, {"images", "list"}, {"leases", "list"}} {
		all = append(all, n.containerd(list...)...)
	}
	for _, dir := range []string{"state", "run"} {
		err := filepath.WalkDir(filepath.Join(n.dir, dir), func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.t.Fatal(err)
		}
	}
	all = append(all, rig.Mounts(n.dir)...)
	return strings.Join(append(all, fmt.Sprint(len(rig.Processes(n.dir, "shim")), " shims")), "\n")
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
		"no such file":        {evident: true, args: []string{"deploy", filepath.Join(dir, "none.yaml")}, want: []string{"none.yaml", "no such file"}},
		"a directory":         {evident: true, args: []string{"deploy", dir}, want: []string{dir, "is a directory"}},
		"an empty file":       {evident: true, args: []string{"deploy", write("empty.yaml", "")}, want: []string{"empty.yaml:1:1", "says nothing"}},
		"not YAML":            {evident: true, args: []string{"deploy", write("bad.yaml", "app: [")}, want: []string{"bad.yaml:2:1"}},
		"unknown field":       {args: []string{"deploy", spec("comand: [x]\n")}, want: []string{"spec.yaml:4:1", "comand", "did you mean command"}},
		"wrong type":          {args: []string{"deploy", spec("command: true\n")}, want: []string{"spec.yaml:4:10", "command", "must be a list"}},
		"repeated field":      {evident: true, args: []string{"deploy", spec("user: a\nuser: b\n")}, want: []string{"spec.yaml:5:1", "given twice, first on line 4"}},
		"out of bounds":       {args: []string{"deploy", spec("resources: {memory: 1Ki}\n")}, want: []string{"spec.yaml:4:21", "at least 6Mi"}},
		"unset variable":      {args: []string{"deploy", spec("env: {A: \"${NOT_SET_ANYWHERE}\"}\n")}, want: []string{"spec.yaml:4", "NOT_SET_ANYWHERE"}},
		"no functions":        {args: []string{"deploy", write("none.yaml", "app: w\nfunctions: []\n")}, want: []string{"none.yaml", "functions"}},
		"two of one function": {evident: true, args: []string{"deploy", write("two.yaml", "app: w\ndefaults: {image: {ref: b}}\nfunctions:\n- {function: f}\n- {function: f}\n")}, want: []string{"two.yaml:5", "functions[1].function"}},
		"another environment": {args: []string{"deploy", "-E", "prod", spec("environment: dev\n")}, want: []string{"-E prod", "dev", "leave out -E"}},
		"reserved variable":   {args: []string{"deploy", spec("env: {PURSER_APP: x}\n")}, want: []string{"spec.yaml:4", "purser alone sets"}},
		"no way to a secret":  {args: []string{"deploy", spec("secrets: [{name: s, env: false}]\n")}, want: []string{"spec.yaml:4", "needs a file"}},
		"a secret's file in /": {args: []string{"deploy", spec("secrets: [{name: s, file: {path: /s.json, format: json}}]\n")},
			want: []string{"spec.yaml:4", "a directory of its own, such as /run/secrets"}},

		// flags and arguments
		"unknown command":      {args: []string{"depoly"}, code: 2, want: []string{"depoly", "deploy"}},
		"unknown flag":         {args: []string{"ps", "--al"}, code: 2, want: []string{"--al", "--help"}},
		"flag without a value": {args: []string{"run", "--image"}, want: []string{"--image"}},
		"bad duration":         {args: run("--timeout", "5 minutes"), want: []string{"--timeout", "such as 500ms, 30s"}},
		"bad memory":           {args: run("--memory", "256MB"), want: []string{"--memory", "256Mi"}},
		"bad output":           {args: []string{"ps", "-o", "xml"}, code: 2, want: []string{"xml", "table, json or yaml"}},
		"bad variable":         {args: run("-e", "A B=c"), want: []string{"--env", "K=V"}},
		"no arguments":         {args: []string{"get"}, code: 2, want: []string{"ID"}},
		"too many arguments":   {args: []string{"get", "a/f", "b"}, code: 2, want: []string{"b"}},
		"no image":             {args: []string{"run", "--", "true"}, want: []string{"--image REF"}},
		"bad log time":         {args: []string{"logs", "--since", "yesterday", "a/f"}, code: 2, want: []string{"--since", "yesterday"}},
		"bad signal":           {args: []string{"signal", "a/f", "SIGNOPE"}, want: []string{"SIGNOPE"}},

		// names
		"no such workload":      {args: []string{"get", "a/g"}, want: []string{"a/g", "dev", "a/f"}},
		"in no environment":     {args: []string{"get", "-E", "prod", "a/f"}, want: []string{"prod", "dev"}},
		"no such app":           {args: []string{"app", "history", "b"}, want: []string{"no app b", "dev", "purser app list -A"}},
		"bad name of a secret":  {args: []string{"secret", "set", "a b", "K=-"}, code: 2, stdin: "x", want: []string{"letters"}},
		"bad environment":       {args: []string{"ps", "-E", "a b"}, code: 2, want: []string{"environment", "letters"}},
		"no such user":          {args: run("--user", "nobody-here"), want: []string{"user \"nobody-here\"", "give a number"}},
		"no such runtime":       {args: run("--runtime", "kata"), want: []string{"kata", "there is: "}},
		"a mount of no one's":   {args: []string{"deploy", spec("mounts: [{source: /etc, target: /x}]\n")}, want: []string{"/etc", "allowed_roots", "use a volume"}},
		"no such working image": {args: []string{"image", "rm", "localhost/none:1"}, want: []string{"localhost/none:1", "no such image on this node; see purser image list"}},

		// secrets
		"no such secret":           {args: run("--secret", "missing"), want: []string{"secret missing does not exist", "purser secret set -E dev missing KEY=-"}},
		"no such key":              {args: []string{"deploy", spec("secrets: [{name: s, required_keys: [OTHER]}]\n")}, want: []string{"OTHER", "purser secret set -E dev s OTHER=-"}},
		"no such version":          {args: []string{"deploy", spec("secrets: [{name: s, version: 9}]\n")}, want: []string{"s", "9"}},
		"key of a bad name":        {args: []string{"secret", "set", "t", "1A=-"}, code: 2, stdin: "x", want: []string{"argument 1", "letters"}},
		"nothing to set":           {args: []string{"secret", "set", "t"}, code: 2, want: []string{"t", "K=-"}},
		"empty standard input":     {evident: true, args: []string{"secret", "set", "t", "K=-"}, want: []string{"K", "standard input is empty"}},
		"no such value file":       {evident: true, args: []string{"secret", "set", "t", "K=@" + filepath.Join(dir, "none")}, want: []string{"K", "no such file"}},
		"bad dotenv":               {args: []string{"secret", "set", "t", "--from-dotenv", write("bad.env", "A=1\nB\n")}, want: []string{"bad.env", "K=V"}},
		"bad JSON":                 {args: []string{"secret", "set", "t", "--from-json", write("bad.json", "{\"A\": [1]}")}, want: []string{"bad.json", "A must be a string"}},
		"no version to go back to": {args: []string{"secret", "rollback", "s", "7"}, want: []string{"s", "7"}},
		"files over the image":     {args: []string{"deploy", spec("secrets: [{name: s, file: {path: /bin/x.json, format: json}}]\n")}, want: []string{"/bin", "has files there"}},
		"not a file's secret":      {args: run("--secret-file", "s"), want: []string{"--secret-file s", "NAME=DIR"}},

		// images
		"an image that is not there": {args: []string{"run", "--image", "localhost/box:2", "--", "true"}, want: []string{"localhost/box:2", "not on this node", "purser image import"}},
		"a registry of no one's":     {args: []string{"run", "--image", "registry.invalid/box:1", "--", "true"}, want: []string{"no such host: image registry.invalid/box:1", "DNS"}},
		"an imported image pulled":   {args: []string{"image", "pull", "localhost/none:1"}, want: []string{"not found: image localhost/none:1: localhost is what imported images are named by", "import"}},
		"a reference with a scheme":  {args: []string{"image", "pull", "http://127.0.0.1:1/box:1"}, want: []string{"leave http:// out, as in 127.0.0.1:1/box:1"}},
		"a registry that is down":    {args: []string{"image", "pull", "127.0.0.1:1/box:1"}, want: []string{"connection refused: image 127.0.0.1:1/box:1", "port"}},
		"a pull of no reference":     {args: []string{"image", "pull", "Box"}, want: []string{"Box"}},
		"a platform of no kind":      {args: []string{"image", "pull", "box", "--platform", "arm"}, want: []string{"--platform", "linux/arm64"}},
		"a policy of no kind":        {args: run("--pull", "sometimes"), want: []string{"--pull", "if_not_present, always or never"}},
		"a reference in capitals":    {args: []string{"run", "--image", "localhost/Box:1", "--", "true"}, want: []string{"--image", "lower case"}},
		"no archive":                 {evident: true, args: []string{"image", "import", write("not.tar", "this is no archive")}, want: []string{"not.tar"}},
		"a corrupt archive":          {evident: true, args: []string{"image", "import", corrupt(t)}, want: []string{"corrupt.tar"}},
		"another architecture":       {args: []string{"image", "import", foreign(t)}, want: []string{"its image is for linux/arm64; this node runs linux/amd64; import one for that"}},
		"no such archive":            {evident: true, args: []string{"image", "import", filepath.Join(dir, "none.tar")}, want: []string{"none.tar", "no such file"}},

		// sockets
		"no socket":         {args: []string{"--host", "unix://" + dir + "/none.sock", "ps"}, want: []string{"no agent answers", "none.sock", "purser dev"}},
		"a host of no kind": {args: []string{"--host", "ftp://x", "ps"}, want: []string{"ftp://x", "want unix:///path"}},
		"a file, no socket": {args: []string{"--host", "unix://" + write("plain.sock", ""), "ps"}, want: []string{"no agent answers"}},

		// permissions
		"a socket of root's":          {nobody: true, args: []string{"ps"}, want: []string{"permission denied", "use sudo"}},
		"a run on a socket of root's": {nobody: true, args: run(), want: []string{"permission denied", "use sudo"}},
		"an agent without root":       {nobody: true, args: []string{"agent"}, want: []string{"needs root", "sudo purser agent"}},
		"a node without root":         {nobody: true, args: []string{"dev", "--dir", filepath.Join(dir, "n")}, want: []string{"needs root", "sudo purser dev"}},
		"a spec of root's":            {nobody: true, args: []string{"deploy", "/proc/1/environ"}, want: []string{"/proc/1/environ", "permission denied", "use sudo"}},
		"a value of root's":           {nobody: true, args: []string{"secret", "set", "t", "K=@/proc/1/environ"}, want: []string{"K", "/proc/1/environ", "permission denied", "use sudo"}},
		"an archive of root's":        {nobody: true, args: []string{"image", "import", "/proc/1/environ"}, want: []string{"/proc/1/environ", "permission denied", "use sudo"}},

		// volumes
		"no such volume":             {args: []string{"volume", "rm", "none"}, want: []string{"no volume none in environment dev", "volume list"}},
		"a volume that is nearly so": {args: []string{"volume", "rm", "dta"}, want: []string{"did you mean data?"}},
		"a volume in use":            {args: []string{"volume", "rm", "data"}, want: []string{"volume data", "used by a/f", "purser rm"}},
		"bad name of a volume":       {args: []string{"volume", "create", "a b"}, want: []string{"NAME", "letters"}},
		"bad mode of a volume":       {args: []string{"volume", "create", "v", "--mode", "rw"}, want: []string{"--mode", "octal, such as 0755"}},
		"set-user-ID on a volume":    {args: []string{"volume", "create", "v", "--mode", "4777"}, want: []string{"mode 4777", "as in 0777"}},
		"a volume's owner by name":   {args: []string{"volume", "create", "v", "--user", "app"}, code: 2, want: []string{"--user app", "1000:1000"}},
		"a volume of someone else":   {args: []string{"volume", "create", "data", "--user", "7"}, want: []string{"volume data", "0:0", "remove it first"}},
		"a spec of no volume":        {args: []string{"deploy", spec("mounts: [{type: volume, source: v, target: /v}]\n")}, want: []string{"mounts[0].source", "purser volume create -E dev v"}},
		"a volume by its path":       {args: []string{"deploy", spec("mounts: [{type: volume, source: /v, target: /v}]\n")}, want: []string{"spec.yaml:4", "the name of a volume"}},
		"two mounts in one place":    {evident: true, args: []string{"deploy", spec("mounts: [{type: tmpfs, target: /v}, {type: tmpfs, target: /v}]\n")}, want: []string{"spec.yaml:4:59", "repeats mounts[0].target"}},

		// secrets' files out of place
		"files below a file": {args: run("--secret-file", "s=/etc/passwd/x"), want: []string{"/etc/passwd/x", "has a file where that needs a directory", "such as /run/secrets"}},
		"files in a read-only mount": {args: []string{"deploy", spec("secrets: [{name: s, file: {path: /v/s}}]\nmounts: [{type: volume, source: data, target: /v, read_only: true}]\n")},
			want: []string{"/v/s", "is read-only and has no directory s", "such as /run/secrets"}},

		// terminals and commands in containers
		"run on no terminal":        {args: []string{"run", "-it", "--image", image, "--", "true"}, want: []string{"-t needs a terminal", "leave -t out"}},
		"exec on no terminal":       {args: []string{"exec", "-t", "a/f", "--", "true"}, want: []string{"-t needs a terminal", "leave -t out"}},
		"attach without a terminal": {args: []string{"attach", "-it", "a/f"}, want: []string{"a/f has no terminal", "leave -t out"}},
		"bad detach keys":           {args: []string{"exec", "-it", "--detach-keys", "ctrl-pq", "a/f", "--", "sh"}, want: []string{"--detach-keys", "ctrl-LETTER"}},
		"bad detach keys of run":    {args: run("--detach-keys", "escape"), want: []string{"--detach-keys", "ctrl-LETTER"}},
		"bad detach keys of attach": {args: []string{"attach", "--detach-keys", "", "--detach-keys", "x,", "a/f"}, want: []string{"--detach-keys", "ctrl-LETTER"}},
		"exec in what has ended":    {args: []string{"exec", "a/ended", "--", "true"}, want: []string{"a/ended", "does not run: it is completed", "purser start -E dev a/ended"}},
		"attach to what has ended":  {args: []string{"attach", "a/ended"}, want: []string{"a/ended", "does not run: it is completed", "purser start -E dev a/ended"}},
		"signal what has ended":     {args: []string{"signal", "a/ended", "TERM"}, want: []string{"a/ended", "does not run: it is completed", "purser start -E dev a/ended"}},
		"exec in nothing":           {args: []string{"exec", "a/g", "--", "true"}, want: []string{"a/g", "dev", "a/f"}},
		"exec without a command":    {args: []string{"exec", "a/f"}, want: []string{"needs a command", "--help"}},
		"exec without a directory":  {args: []string{"exec", "--workdir", "/nope", "a/f", "--", "true"}, want: []string{"workdir /nope", "is not in the container", "name another"}},
		"exec as a stranger":        {args: []string{"exec", "--user", "nobody-here", "a/f", "--", "true"}, want: []string{"user \"nobody-here\"", "give a number"}},
		"exec of nothing":           {evident: true, args: []string{"exec", "a/f", "--", "/no/such"}, code: 127, want: []string{"/no/such", "no such file"}},
		"exec of no program":        {evident: true, args: []string{"exec", "a/f", "--", "/etc/passwd"}, code: 126, want: []string{"/etc/passwd", "permission denied"}},
		"run of nothing":            {evident: true, args: []string{"run", "--image", image, "--", "/no/such"}, code: 127, want: []string{"/no/such", "no such file"}},
		"run of no program":         {evident: true, args: []string{"run", "--image", image, "--", "/etc/passwd"}, code: 126, want: []string{"/etc/passwd", "permission denied"}},
		"wait for nothing":          {args: []string{"wait", "a/g"}, want: []string{"a/g", "dev", "a/f"}},
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
	t.Parallel()
	n := newNode(t, rig.V24)
	n.runWith(canary, "secret", "set", "s", "KEY=-")
	n.must("volume", "create", "data")
	n.deploy(`
app: a
functions:
  - {function: f, image: {ref: `+image+`}, command: [sh, -c, 'exec sleep 100000'], stop: {grace: 0s}, mounts: [{type: volume, source: data, target: /data}]}
  - {function: ended, kind: job, image: {ref: `+image+`}, command: ["true"]}
`, "--wait")
	n.must("wait", "a/ended")
	before := n.traces()
	for name, c := range wrongInputs(t) {
		t.Run(name, func(t *testing.T) {
			r := n.answer(t, c)
			if r.code != c.status() || r.stdout != "" {
				t.Errorf("purser %s: status %d, want %d, stdout %q", strings.Join(c.args, " "), r.code, c.status(), r.stdout)
			}
			if advice.MatchString(r.stderr) == c.evident {
				t.Errorf("purser %s: says what to do: %v\n%s", strings.Join(c.args, " "), !c.evident, r.stderr)
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
	var after string
	if !n.eventuallyIs(func() bool { after = n.traces(); return after == before }) {
		t.Errorf("something is left:\n%s\nbefore:\n%s", after, before)
	}
}

// A disk that is full, and a state directory that cannot be written, are named, lose
// nothing, and are over when they are.
func TestFullAndReadOnlyDisk(t *testing.T) {
	t.Parallel()
	d := makeDisk(t, rig.V24)
	d.begin(t)
	d.runWith("one", "secret", "set", "s", "KEY=-")
	d.deploySleeper()
	before := d.traces()
	state := filepath.Join(d.dir, "state")
	big := file(t, "big", strings.Repeat("x", 200_000))

	d.fill(t)
	d.wantRefused(t, 1, "no space left on device", map[string][]string{
		"a secret":     {"secret", "set", "s", "KEY=@" + big},
		"a new secret": {"secret", "set", "t", "KEY=@" + big},
		"an image":     {"image", "import", "--name", "localhost/again:1", boxImage(t)},
	})
	d.free(t)
	d.wantTraces(t, before)
	d.must("run", "--image", image, "--secret", "s", "--", "sh", "-c", `test "$KEY" = one`)

	readOnly(t, state)
	spec := file(t, "app.yaml", "app: b\nfunction: f\nimage: {ref: "+image+"}\n")
	d.wantRefused(t, 1, "read-only file system", map[string][]string{
		"a secret":       {"secret", "set", "s", "KEY=@" + file(t, "two", "two")},
		"a new secret":   {"secret", "set", "t", "KEY=@" + file(t, "two", "two")},
		"a secret's end": {"secret", "delete", "s", "--destroy"},
		"a volume":       {"volume", "create", "v"},
	})
	writable(t, state)
	d.wantTraces(t, before)
	d.must("secret", "set", "s", "KEY=@"+file(t, "two", "two"))
	d.must("deploy", spec, "--wait")
}

// wantRefused wants each command to be refused for the same reason.
func (d *diskNode) wantRefused(t *testing.T, code int, reason string, commands map[string][]string) {
	t.Helper()
	for name, args := range commands {
		r := d.run(args...)
		if r.code != code || r.stdout != "" || !strings.Contains(r.stderr, reason) || !strings.HasPrefix(r.stderr, "purser: ") {
			t.Errorf("%s, purser %s: %+v, want %q", name, strings.Join(args, " "), r, reason)
		}
	}
}

// wantTraces wants the node to be as it was.
func (d *diskNode) wantTraces(t *testing.T, before string) {
	t.Helper()
	var after string
	if !d.eventuallyIs(func() bool { after = d.traces(); return after == before }) {
		t.Errorf("the node is\n%s\nand was\n%s", after, before)
	}
}

// fill takes all of the disk. ext4 keeps some blocks for root, which this is.
func (d *diskNode) fill(t *testing.T) {
	t.Helper()
	for i, size := range []string{"1M", "512"} {
		_ = exec.Command("dd", "if=/dev/zero", "of="+filepath.Join(d.mount, fmt.Sprint("full", i)), "bs="+size).Run()
	}
}

func (d *diskNode) free(t *testing.T) {
	t.Helper()
	for i := range 2 {
		if err := os.Remove(filepath.Join(d.mount, fmt.Sprint("full", i))); err != nil {
			t.Fatal(err)
		}
	}
}

// readOnly makes a directory read-only for who opens what is in it from now on, until
// writable is called.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	err := unix.Mount(dir, dir, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func writable(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}
