package handover

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/goleak"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/handover/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const document = `{"ociVersion":"1.0.2","future":{"x":[1]},
"process":{"args":["a"],"env":["B=public","SECRET=old","PATH=/bin"],"future":1},
"root":{"path":"rootfs","readonly":true},"annotations":{"dev.purser.token":"T","keep":"it"},
"hooks":{"createRuntime":[{"path":"/h","args":["h","x"],"env":["E=1"],"timeout":3}],"startContainer":[{"path":"/in"}]}}`

func TestSpec(t *testing.T) {
	completed, err := Spec([]string{"SECRET=new", "A=first"}, Installed{Path: "/w/purser-oci"})([]byte(document), "/bundle")
	if err != nil {
		t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(completed, &spec); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(spec.Process.Env, " "); got != "A=first B=public PATH=/bin SECRET=new" {
		t.Errorf("env %s", got)
	}
	if spec.Root.Path != "/bundle/rootfs" || !spec.Root.Readonly || len(spec.Annotations) != 1 {
		t.Errorf("root %+v, annotations %v", spec.Root, spec.Annotations)
	}
	if h := spec.Hooks.CreateRuntime[0]; h.Path != "/w/purser-oci" || strings.Join(h.Args, " ") != "/w/purser-oci purser-hook /bundle /h h x" || h.Env[0] != "E=1" || *h.Timeout != 3 {
		t.Errorf("hook %+v", h)
	}
	if spec.Hooks.StartContainer[0].Path != "/in" {
		t.Errorf("hooks inside: %+v", spec.Hooks.StartContainer)
	}
	if !strings.Contains(string(completed), `"future":{"x":[1]}`) || !strings.Contains(string(completed), `"future":1`) {
		t.Errorf("fields were lost: %s", completed)
	}
}

func TestProcess(t *testing.T) {
	completed, err := Process([]string{"S=v"})([]byte(`{"env":["PURSER_OCI_TOKEN=T","A=b"],"cwd":"/x"}`), "")
	if err != nil || string(completed) != `{"cwd":"/x","env":["A=b","S=v"]}` {
		t.Errorf("%s, %v", completed, err)
	}
}

// Whatever document comes, it is refused or completed to what can be read.
func FuzzSpec(f *testing.F) {
	f.Add([]byte(document))
	f.Add([]byte(`{"process":null,"root":{}}`))
	f.Add([]byte(`{"hooks":{"prestart":[null,{}],"poststop":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		completed, err := Spec([]string{"S=v"}, Installed{Path: "/w"})(data, "/b")
		if err == nil && !json.Valid(completed) {
			t.Errorf("%s", completed)
		}
	})
}

// fixture is a server with the wrapper in front of a runtime that prints what it is
// given.
type fixture struct {
	*Server
	dir     string
	runtime Installed
	results chan string
	wrapper string
}

// quiet are the options of a server that nothing is to be heard of.
func quiet(dir string) Options {
	return Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Observe: func(string) {}}
}

func serve(t *testing.T) *fixture {
	t.Helper()
	r := &fixture{dir: t.TempDir(), results: make(chan string, 16)}
	o := quiet(r.dir)
	o.Observe = func(result string) { r.results <- result }
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	wrapper := filepath.Join(t.TempDir(), "purser-oci")
	build := exec.Command("go", "build", "-trimpath", "-o", wrapper, "github.com/purserd/purser/cmd/purser-oci")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.wrapper = wrapper
	script := filepath.Join(t.TempDir(), "runtime")
	write(t, script, `#!/bin/sh
echo "args: $@"
[ -e /proc/self/fd/199 ] && cat /proc/self/fd/199
exit 7
`, 0o755)
	if r.runtime, err = s.Install("test", wrapper, script); err != nil {
		t.Fatal(err)
	}
	r.Server = s
	return r
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// bundle makes one whose specification has a token.
func bundle(t *testing.T, token string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"), strings.Replace(document, `"T"`, `"`+token+`"`, 1), 0o600)
	return dir
}

// call runs the wrapper.
func (r *fixture) call(args ...string) (out string, code int) {
	cmd := exec.Command(r.runtime.Path, args...)
	output, _ := cmd.CombinedOutput()
	return string(output), cmd.ProcessState.ExitCode()
}

func TestConversation(t *testing.T) {
	r := serve(t)
	token, _ := r.Expect(protocol.OpCreate, "id", Spec([]string{"SECRET=value"}, r.runtime))
	b := bundle(t, token)
	log := filepath.Join(t.TempDir(), "log")
	create := []string{"--root", r.runtime.Root, "--log", log, "--log-format", "json", "create", "--bundle", b, "--pid-file", "/p", "id"}
	out, code := r.call(create...)
	if code != 7 || !strings.Contains(out, "create --bundle "+r.dir+"/bundle --pid-file /p id") || !strings.Contains(out, "SECRET=value") {
		t.Errorf("status %d: %s", code, out)
	}
	if result := <-r.results; result != ResultOK {
		t.Errorf("result %s", result)
	}
	// The token has been used.
	out, code = r.call(create...)
	text, _ := os.ReadFile(log)
	if code != 1 || strings.Contains(out, "args:") || !strings.Contains(string(text), `"msg":"purser-oci: the token of container id is used`) {
		t.Errorf("again: status %d: %s; log %s", code, out, text)
	}
	if result := <-r.results; result != ResultRefused {
		t.Errorf("result %s", result)
	}
	left, err := filepath.Glob(filepath.Join(r.dir, "document-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Before it asks, the wrapper joins the cgroup that it is to be in, or gets nothing.
func TestJoinsFirst(t *testing.T) {
	r := serve(t)
	joined := filepath.Join(t.TempDir(), "tasks")
	write(t, joined, "", 0o600)
	if err := os.Symlink(joined, filepath.Join(r.dir, protocol.Join)); err != nil {
		t.Fatal(err)
	}
	token, _ := r.Expect(protocol.OpCreate, "id", Spec([]string{"SECRET=value"}, r.runtime))
	dir := bundle(t, token)
	if out, code := r.call("create", "--bundle", dir, "id"); code != 7 || !strings.Contains(out, "SECRET=value") {
		t.Errorf("status %d: %s", code, out)
	}
	if text, err := os.ReadFile(joined); err != nil || string(text) != "0" {
		t.Errorf("joined by %q, %v", text, err)
	}
	if err := os.Remove(joined); err != nil {
		t.Fatal(err)
	}
	if out, code := r.call("create", "--bundle", dir, "id"); code != 1 || !strings.Contains(out, "keeping the secrets out of swap space") {
		t.Errorf("without the cgroup: status %d: %s", code, out)
	}
}

// A runtime reads what it keeps of a holder in every call: it has no core then, and is
// in the cgroup without swap, but is not kept from its work where it cannot be.
func TestCallsForAHolder(t *testing.T) {
	r := serve(t)
	script := filepath.Join(t.TempDir(), "limits")
	write(t, script, "#!/bin/sh\ngrep -o 'core file size *[0-9a-z]* *[0-9a-z]*' /proc/self/limits | tr -s ' '\n", 0o755)
	limits, err := r.Install("limits", r.wrapper, script)
	if err != nil {
		t.Fatal(err)
	}
	joined := filepath.Join(t.TempDir(), "tasks")
	write(t, joined, "", 0o600)
	if err := errors.Join(r.Hold("id"), os.Symlink(joined, filepath.Join(r.dir, protocol.Join))); err != nil {
		t.Fatal(err)
	}
	call := func(args ...string) string {
		out, err := exec.Command(limits.Path, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return string(out)
	}
	before := call("state", "other")
	if text, err := os.ReadFile(joined); err != nil || len(text) != 0 {
		t.Errorf("joined for another container: %q, %v", text, err)
	}
	for _, args := range [][]string{{"start", "id"}, {"--root", "/r", "delete", "--force", "id"}, {"--unknown", "x", "state", "id"}} {
		if out := call(args...); !strings.HasPrefix(out, "core file size 1 1") && !strings.HasPrefix(before, "core file size 0 0") {
			t.Errorf("%v: %s", args, out)
		}
		if text, err := os.ReadFile(joined); err != nil || string(text) != "0" {
			t.Errorf("%v: joined by %q, %v", args, text, err)
		}
		write(t, joined, "", 0o600)
	}
	if err := os.Remove(joined); err != nil {
		t.Fatal(err)
	}
	call("delete", "id")
}

// Tokens do not last, also when nobody forgets them.
func TestTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{expected: map[string]expectation{}}
		token, _ := s.Expect(protocol.OpCreate, "id", nil)
		late, _ := s.Expect(protocol.OpCreate, "id", nil)
		time.Sleep(lifetime - time.Second)
		if _, err := s.redeem(token, request{op: protocol.OpCreate, id: "id"}); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		var refused *refusal
		if _, err := s.redeem(late, request{op: protocol.OpCreate, id: "id"}); !errors.As(err, &refused) {
			t.Errorf("after its time: %v", err)
		}
	})
}

// A token is for one container and one kind of request.
func TestTokensAreNarrow(t *testing.T) {
	r := serve(t)
	for name, c := range map[string]struct {
		expect func() string
		args   func(token string) []string
	}{
		"another container": {
			func() string { token, _ := r.Expect(protocol.OpCreate, "other", Spec(nil, r.runtime)); return token },
			func(token string) []string { return []string{"create", "--bundle", bundle(t, token), "id"} },
		},
		"another kind": {
			func() string { token, _ := r.Expect(protocol.OpExec, "id", Process(nil)); return token },
			func(token string) []string { return []string{"create", "--bundle", bundle(t, token), "id"} },
		},
		"forgotten": {
			func() string {
				token, forget := r.Expect(protocol.OpCreate, "id", Spec(nil, r.runtime))
				forget()
				return token
			},
			func(token string) []string { return []string{"create", "--bundle", bundle(t, token), "id"} },
		},
		"made up": {
			func() string { return "made-up" },
			func(token string) []string { return []string{"create", "--bundle", bundle(t, token), "id"} },
		},
	} {
		if out, code := r.call(c.args(c.expect())...); code != 1 || strings.Contains(out, "args:") {
			t.Errorf("%s: status %d: %s", name, code, out)
		}
		if result := <-r.results; result != ResultRefused {
			t.Errorf("%s: result %s", name, result)
		}
	}
}

// What is not purser's reaches the runtime as it is, and needs no agent.
func TestPassThrough(t *testing.T) {
	r := serve(t)
	r.Close()
	plain := t.TempDir()
	write(t, filepath.Join(plain, "config.json"), `{"process":{}}`, 0o600)
	process := filepath.Join(t.TempDir(), "process.json")
	write(t, process, `{"env":["A=b"]}`, 0o600)
	for _, args := range [][]string{
		{}, {"--version"}, {"create", "--bundle", plain, "id"}, {"create", "--bundle", "/no/such", "id"}, {"exec", "--process", process, "id"},
		{"exec", "id", "sh"}, {"state", "id"}, {"delete", "--force", "id"}, {"kill", "--all", "id", "9"}, {"unheard-of", "--flag=x", "y z"},
		{"checkpoint", "--image-path", "/x", "id"},
	} {
		if out, code := r.call(args...); code != 7 || out != "args: "+strings.Join(args, " ")+"\n" {
			t.Errorf("%v: status %d: %s", args, code, out)
		}
	}
}

func TestCheckpointOfAHolder(t *testing.T) {
	r := serve(t)
	if err := r.Hold("id"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"checkpoint", "--image-path", "/x", "id"},
		{"checkpoint", "--compression", "none", "--image-path", "/x", "id"},
		{"-network", "host", "checkpoint", "--image-path=/x", "id"},
	} {
		if out, code := r.call(args...); code != 1 || !strings.Contains(out, "would write the secrets of container id to disk") {
			t.Errorf("%v: status %d: %s", args, code, out)
		}
	}
	if err := r.Release("id"); err != nil {
		t.Fatal(err)
	}
	if _, code := r.call("checkpoint", "--image-path", "/x", "id"); code != 7 {
		t.Errorf("after it was released: status %d", code)
	}
}

// Nobody hears what others may not: another user is turned away.
func TestOtherUser(t *testing.T) {
	rig.Root(t)
	r := serve(t)
	socket := filepath.Join(r.dir, protocol.Socket)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// Even with a good token, and all that lies in the way open to everybody.
	token, _ := r.Expect(protocol.OpCreate, "id", Spec([]string{"SECRET=value"}, r.runtime))
	dir := bundle(t, token)
	for _, path := range []string{socket, r.runtime.Path, filepath.Join(dir, "config.json")} {
		open(t, path)
		if target, err := filepath.EvalSymlinks(path); err == nil {
			open(t, target)
		}
	}
	out, err := exec.Command("setpriv", "--reuid=65534", "--clear-groups", r.runtime.Path, "create", "--bundle", dir, "id").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "user 65534 may not have a container's secrets") || strings.Contains(string(out), "args:") {
		t.Errorf("%v: %s", err, out)
	}
	if result := <-r.results; result != ResultRefused {
		t.Errorf("result %s", result)
	}
}

// open lets everybody use a file.
func open(t *testing.T, path string) {
	t.Helper()
	for ; len(path) > len("/tmp"); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

// What an agent that died had just written is not kept for ever.
func TestLeftDocument(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, documentPrefix+"1")
	write(t, left, "SECRET=value", 0o600)
	s, err := Listen(quiet(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Lstat(left); err == nil {
		t.Error("it is still there")
	}
}

// A client that says nothing is not waited for at the end.
func TestSilentClient(t *testing.T) {
	r := serve(t)
	conn, err := net.Dial("unix", filepath.Join(r.dir, protocol.Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{protocol.Version}); err != nil {
		t.Fatal(err)
	}
	r.Close()
}

// An agent that hears and does not answer is waited for, and not for ever.
func TestSlowAgent(t *testing.T) {
	t.Parallel() // it takes as long as the wrapper waits
	r := serve(t)
	r.Close()
	path := filepath.Join(r.dir, protocol.Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		out, code := r.call("create", "--bundle", bundle(t, "token"), "id")
		if code != 1 || strings.Contains(out, "args:") || !strings.Contains(out, "purser's agent did not answer in time") {
			t.Errorf("status %d: %s", code, out)
		}
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("it still waits")
		l.Close()
		<-ended
	}
}
