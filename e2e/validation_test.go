package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/handover"
	"github.com/purserd/purser/runtime/handover/protocol"
)

// The OCI's validation suite finds the same of a runtime alone, of one behind the
// wrapper, and of one whose containers the wrapper completes.
func TestRuntimeValidation(t *testing.T) {
	t.Parallel()
	rig.Root(t)
	for _, r := range []struct {
		name string
		// passing is how many checks have to pass at least, so that alike does not
		// come to mean that nothing works. A tenth more do on Debian 12.
		passing int
		what    func(outcome) []string
	}{
		{"runc", 6100, outcome.lines},
		// What crun says of a failure depends on which of its processes is faster.
		{"crun", 6300, outcome.checks},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(r.name)
			if err != nil {
				t.Fatalf("%s is missing: apt-get install %[1]s", r.name)
			}
			a := newAgent(t, r.name, path)
			v := validation{
				Isolation: rig.Isolate(t), t: t,
				runtimes: [3]string{path, a.installed.Path, a.front()},
				what:     r.what, retries: 5,
			}
			if n := v.run(); n < r.passing {
				t.Errorf("%d checks passed, which is not the suite", n)
			}
			if n := a.answers.Load(); n < 100 {
				t.Errorf("%d containers got secrets, which is not the suite", n)
			}
		})
	}
}

// validation runs the suite on a runtime alone, behind the wrapper, and with secrets.
type validation struct {
	*rig.Isolation
	t        *testing.T
	runtimes [3]string
	// what of an outcome is compared.
	what func(outcome) []string
	// retries are for programs that race with their containers, and may lose on a busy
	// machine. What the wrapper changes it changes each time.
	retries int
}

// outcome is how a program of the suite ended.
type outcome struct {
	status         int
	stdout, stderr string
}

const (
	// leftOut limits the memory so tightly that runc itself runs out of it by chance,
	// and allows core dumps, which the wrapper forbids where there are secrets.
	leftOut = "process_rlimits"
	// atOnce is how many programs run at a time: they wait most of the time.
	atOnce = 3
)

// run runs every program, and counts the checks that pass with the runtime alone.
func (v *validation) run() (passing int) {
	v.t.Helper()
	dir, programs := rig.ValidationSuite(v.t)
	programs = slices.DeleteFunc(programs, func(p string) bool { return p == leftOut })
	outcomes := make([][3]outcome, len(programs))
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i, p := range programs {
		all.Go(func() (err error) {
			outcomes[i], err = v.onEach(filepath.Join(dir, p))
			return err
		})
	}
	if err := all.Wait(); err != nil {
		v.t.Fatal(err)
	}
	for i, p := range programs {
		v.compare(filepath.Join(dir, p), outcomes[i])
		passing += outcomes[i][0].passing()
	}
	return passing
}

// onEach runs a program on each runtime.
func (v *validation) onEach(program string) (outcomes [3]outcome, err error) {
	var all errgroup.Group
	for i, runtime := range v.runtimes {
		all.Go(func() (err error) {
			outcomes[i], err = v.one(program, runtime)
			return err
		})
	}
	return outcomes, all.Wait()
}

func (v *validation) one(program, runtime string) (outcome, error) {
	ctx, cancel := context.WithTimeout(v.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir = filepath.Dir(program)
	cmd.Env = append(os.Environ(), "RUNTIME="+runtime, "TMPDIR=/run")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := errors.Join(v.Run(cmd), ctx.Err()); err != nil {
		return outcome{}, fmt.Errorf("%s on %s: %w\n%s%s", program, runtime, err, &out, &errs)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}, nil
}

// compare fails the test when the outcomes of a program differ, and go on to.
func (v *validation) compare(program string, outcomes [3]outcome) {
	v.t.Helper()
	difference := v.difference(outcomes)
	for ; difference != "" && v.retries > 0; v.retries-- {
		v.t.Logf("trying %s again", filepath.Base(program))
		again, err := v.onEach(program)
		if err != nil {
			v.t.Fatal(err)
		}
		difference = v.difference(again)
	}
	if difference != "" {
		v.t.Errorf("%s: %s", filepath.Base(program), difference)
	}
}

// difference shows where the outcomes differ from that of the runtime alone.
func (v *validation) difference(outcomes [3]outcome) string {
	var text strings.Builder
	alone := outcomes[0]
	for i, way := range []string{"behind the wrapper", "with secrets"} {
		o := outcomes[i+1]
		less, more := differences(v.what(alone), v.what(o))
		if alone.status != o.status || len(less)+len(more) > 0 {
			fmt.Fprintf(&text, "exit status %d alone, %d %s\nonly alone:\n%s\nonly %[3]s:\n%[5]s\n",
				alone.status, o.status, way, strings.Join(less, "\n"), strings.Join(more, "\n"))
		}
	}
	return text.String()
}

// differences are the lines that only one of two has, or has more often.
func differences(a, b []string) (onlyA, onlyB []string) {
	count := map[string]int{}
	for _, line := range a {
		count[line]++
	}
	for _, line := range b {
		if count[line]--; count[line] < 0 {
			onlyB = append(onlyB, line)
		}
	}
	for _, line := range slices.Backward(a) {
		if count[line] > 0 {
			count[line]--
			onlyA = append(onlyA, line)
		}
	}
	slices.Reverse(onlyA)
	return onlyA, onlyB
}

// varying is what differs between two runs with the same result, in order.
var varying = []struct{ pattern, as string }{
	// The tests that run in a container are quoted, and their order is that of a map.
	{`\\n`, "\n"},
	{`(?m)^((?:not )?ok) \d+`, "$1"},
	{`[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}`, "ID"},
	{`(ocitest|target|mount|example)\d+`, "$1"},
	{`\d{4}-\d\d-\d\dT[\d:]+Z`, "TIME"},
	{`(nsexec-\d)\[\d+\]`, "$1"},
	{`.*rmdir /sys/fs/cgroup/.*: device or resource busy.*\n`, ""},
	{`actual: \d{11,}`, "actual: ADDRESS"},
	// Pidfile kills a container that ends by itself, and has compared the file by then.
	{`(?s)not (ok - create with '--pid-file' option works\n).*(?:container not running|No such process).*  \.\.\.\n`, "$1"},
}

// lines are all that was said.
func (o outcome) lines() []string {
	text := o.stdout + o.stderr
	for _, v := range varying {
		text = regexp.MustCompile(v.pattern).ReplaceAllString(text, v.as)
	}
	return strings.Split(text, "\n")
}

// checks are the lines that say what passed and what did not.
func (o outcome) checks() []string {
	return slices.DeleteFunc(o.lines(), func(line string) bool {
		return !strings.HasPrefix(line, "ok ") && !strings.HasPrefix(line, "not ok ")
	})
}

// passing counts the checks that were made and passed.
func (o outcome) passing() (n int) {
	for _, check := range o.checks() {
		if strings.HasPrefix(check, "ok ") && !strings.Contains(check, "# SKIP") {
			n++
		}
	}
	return n
}

// agent is what the wrapper needs of one: a runtime's place, and answers.
type agent struct {
	*handover.Server
	t         *testing.T
	dir       string
	installed handover.Installed
	answers   atomic.Int64
}

func newAgent(t *testing.T, name, runtime string) *agent {
	t.Helper()
	a := &agent{t: t, dir: rig.Dir(t)}
	var err error
	a.Server, err = handover.Listen(handover.Options{
		Dir: a.dir, Log: slog.New(slog.DiscardHandler), Observe: a.observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if a.installed, err = a.Install(name, rig.Wrapper(t), runtime); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *agent) observe(result string) {
	if result == handover.ResultOK {
		a.answers.Add(1)
	}
}

// front returns a runtime that makes each container one with a secret: it gets a
// token for it, as purser would, and goes on to the wrapper.
func (a *agent) front() string {
	a.t.Helper()
	socket := filepath.Join(a.dir, "tokens.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		a.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := a.Expect(protocol.OpCreate, filepath.Base(r.URL.Path), handover.Spec([]string{"SECRET=" + canary}, a.installed))
		fmt.Fprint(w, token)
	})}
	go func() { _ = server.Serve(l) }()
	a.t.Cleanup(func() { server.Close() })

	path := filepath.Join(a.dir, "front")
	script := fmt.Sprintf(`#!/bin/sh
# create [--pid-file FILE] [--bundle BUNDLE] [ID]
before=
for word; do
	[ "$before" != --bundle ] || bundle=$word
	before=$word
done
config=${bundle:-.}/config.json
if [ "$1" = create ] && [ "$word" != "$bundle" ]; then
	token=$(curl --silent --unix-socket %s "http://agent/$word")
	jq --arg token "$token" '.annotations[%q] = $token' "$config" >"$config.new" && mv "$config.new" "$config"
fi
exec %s "$@"
`, socket, protocol.Annotation, a.installed.Path)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		a.t.Fatal(err)
	}
	return path
}
