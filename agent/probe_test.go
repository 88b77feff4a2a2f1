package agent

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/private"
)

// The value of the secret in these tests, which no message may show.
const probedSecret = "hunter2-of-the-database"

// lived is an agent on a containerd, with the container of a service that has a secret.
type lived struct {
	*Agent
	t        *testing.T
	daemon   *rig.Daemon
	instance string
	containers
	revision *supervise.Revision
}

func live(t *testing.T, v rig.Version, script string) *lived {
	t.Helper()
	l := &lived{t: t, daemon: rig.Containerd(t, v)}
	l.open()
	if _, err := l.PutSecret(t.Context(), &purserv1.PutRequest{Name: "db", Data: map[string][]byte{"PASSWORD": []byte(probedSecret)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ImportImages(t.Context(), rig.Archive(t, rig.Busybox(t, rig.Image{})), "", ""); err != nil {
		t.Fatal(err)
	}
	// Without probes, which are asked here alone.
	spec := &purserv1.LaunchSpec{
		App: new("a"), Function: new("f"), Image: &purserv1.Image{Ref: new(rig.BusyboxRef)},
		Secrets: []*purserv1.SecretRef{{Name: new("db")}},
		Command: []string{"sh", "-c", script},
		Restart: &purserv1.Restart{Policy: new("never")},
	}
	if _, _, err := l.Launch(t.Context(), &purserv1.LaunchRequest{Spec: spec}); err != nil {
		t.Fatal(err)
	}
	w := l.lookup("dev", "a/f")
	view, err := w.supervisor.WaitFor(t.Context(), func(v supervise.View) bool { return v.Runs() || v.Settled() })
	if err != nil || view.Status.State != supervise.Running {
		t.Fatalf("%v, %+v", err, view.Status)
	}
	l.instance, l.revision, l.containers = view.Status.Instance.ID, view.Status.Instance.Revision, containers{w}
	return l
}

// open opens the agent, which ends with the test.
func (l *lived) open() {
	l.t.Helper()
	d := l.daemon
	cfg := config.Default()
	cfg.StateDir, cfg.RunDir, cfg.Socket = filepath.Join(d.Dir, "state"), filepath.Join(d.Dir, "run"), filepath.Join(d.Dir, "run", "purser.sock")
	cfg.Containerd.Address, cfg.CgroupParent, cfg.Wrapper = d.Address, d.CgroupParent, rig.Wrapper(l.t)
	cfg.Secrets.Identity = filepath.Join(d.Dir, "identity")
	cfg.Network.DefaultMode = "none"
	cfg.Runtimes = map[string]config.Runtime{"runc": {}}
	a, err := Open(cfg, slog.New(slog.NewTextHandler(l.t.Output(), nil)))
	if err != nil {
		l.t.Fatal(err)
	}
	l.Agent = a
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx)
	}()
	l.t.Cleanup(func() {
		limited, end := context.WithTimeout(context.Background(), time.Minute)
		defer end()
		err := a.Pause(limited)
		cancel()
		<-ended
		err = errors.Join(err, a.Close())
		d.AwaitEnd()
		if err := errors.Join(err, private.Unmount(filepath.Join(cfg.RunDir, "private"))); err != nil {
			l.t.Error(err)
		}
	})
}

// with is the revision of the container with other probes and hooks.
func (l *lived) with(probes *purserv1.Probes, preStop ...string) *supervise.Revision {
	r := *l.revision
	r.Spec = &purserv1.LaunchSpec{App: new("a"), Function: new("f"), Secrets: l.revision.Spec.GetSecrets(), Probes: probes, Hooks: &purserv1.Hooks{PreStop: preStop}}
	return &r
}

// lastEvent is what was told last.
func (l *lived) lastEvent() *purserv1.Event {
	entries, _, _ := l.events.After(l.events.Last() - 1)
	return entries[0].Value
}

// verdict asks probes until there is a verdict, as "live false why".
func (l *lived) verdict(probes *purserv1.Probes) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	got := "no verdict"
	l.Probe(ctx, l.instance, l.with(probes), false, func(p supervise.Probed) {
		got = strings.TrimSpace(strings.Join([]string{p.Probe, map[bool]string{true: "ok", false: "failed"}[p.OK], p.Message}, " "))
		cancel()
	})
	if strings.Contains(got, probedSecret) {
		l.t.Errorf("a message shows the secret: %s", got)
	}
	return got
}

// failures is how often a probe has failed by the metric's account.
func (l *lived) failures(probe string) string {
	found := regexp.MustCompile(`purser_probe_failures_total{probe="` + probe + `"} (\S+)`).FindStringSubmatch(l.scrape())
	if found == nil {
		return "not there"
	}
	return found[1]
}

// shell is a probe by a command of a shell, which decides at once.
func shell(script string) *purserv1.Probe {
	return &purserv1.Probe{
		Exec:   &purserv1.ExecProbe{Command: []string{"sh", "-c", script}},
		Period: new("50ms"), Timeout: new("10s"), Failures: new(uint32(1)),
	}
}

func TestProbesOfContainers(t *testing.T) {
	for _, v := range rig.Versions {
		t.Run(string(v), func(t *testing.T) {
			// It answers every request with its secret.
			l := live(t, v, `exec nc -ll -p 8080 -e sh -c 'while read -r l && [ ${#l} -gt 1 ]; do :; done; printf "HTTP/1.0 500 No\r\n\r\nwith $PASSWORD\n"'`)
			t.Run("verdicts", func(t *testing.T) { testVerdicts(t, l) })
			t.Run("hangs", func(t *testing.T) { testHungCommand(t, l) })
			t.Run("pre_stop", func(t *testing.T) { testPreStop(t, l) })
			t.Run("outage", func(t *testing.T) { testOutage(t, l) })
			t.Run("dies", func(t *testing.T) { testDiesMeanwhile(t, l) })
		})
	}
}

func testVerdicts(t *testing.T, l *lived) {
	if got := l.verdict(&purserv1.Probes{Startup: shell("until echo | nc 127.0.0.1 8080 >/dev/null; do sleep 0.05; done")}); got != "startup ok" {
		t.Fatalf("it does not answer: %s", got)
	}
	port := uint32(8080)
	for want, probes := range map[string]*purserv1.Probes{
		"startup ok": {Startup: shell(`[ "$PURSER_APP" = a ] && [ ${#PASSWORD} = 23 ]`)},
		"ready ok":   {Ready: &purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: &port}}},
		"live failed exited with status 3: one [secret:db/PASSWORD] two":                       {Live: shell(`echo "one $PASSWORD"; echo two >&2; exit 3`)},
		"startup failed exited with status 137 (SIGKILL)":                                      {Startup: shell("kill -9 $$")},
		"live failed HTTP status 500 Internal Server Error: with [secret:db/PASSWORD]":         {Live: &purserv1.Probe{Http: &purserv1.HttpProbe{Port: &port}, Failures: new(uint32(1))}},
		"ready failed connecting to port 1: connection refused (2 tries in a row have failed)": {Ready: &purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: new(uint32(1))}, Failures: new(uint32(2)), Period: new("10ms")}},
		`live failed cannot be executed: exec: "nope": executable file not found in $PATH`:     {Live: &purserv1.Probe{Exec: &purserv1.ExecProbe{Command: []string{"nope"}}, Timeout: new("10s"), Failures: new(uint32(1))}},
	} {
		// The two streams come in any order.
		got := strings.Replace(l.verdict(probes), "two one [secret:db/PASSWORD]", "one [secret:db/PASSWORD] two", 1)
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if s, r, n := l.failures("startup"), l.failures("ready"), l.failures("live"); s != "1" || r != "2" || n != "3" {
		t.Errorf("counted %s, %s and %s failures", s, r, n)
	}
	if got := l.verdict(&purserv1.Probes{Live: shell(`while :; do echo "$PASSWORD"; done | head -c 100000; exit 1`)}); len(got) > maxAnswer+100 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %.100s…", len(got), got)
	}
}

// A command that hangs is killed, with what it has started.
func testHungCommand(t *testing.T, l *lived) {
	p := shell("echo waiting for $PASSWORD; sleep 4242 & sleep 4243")
	p.Timeout = new("1s")
	if got, want := l.verdict(&purserv1.Probes{Live: p}), "live failed took longer than 1s, and was killed before it had ended: waiting for [secret:db/PASSWORD]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := l.verdict(&purserv1.Probes{Live: shell("ps -o args | grep -v grep | grep 'sleep 424'; exit 1")}); got != "live failed exited with status 1" {
		t.Errorf("left running: %s", got)
	}
}

func testPreStop(t *testing.T, l *lived) {
	if err := l.PreStop(t.Context(), l.instance, l.with(nil)); err != nil {
		t.Errorf("without a hook: %v", err)
	}
	if err := l.PreStop(t.Context(), l.instance, l.with(nil, "sh", "-c", "[ -n $PASSWORD ]")); err != nil {
		t.Error(err)
	}
	err := l.PreStop(t.Context(), l.instance, l.with(nil, "sh", "-c", "echo $PASSWORD; exit 5"))
	if err == nil || err.Error() != "hooks.pre_stop: exited with status 5: [secret:db/PASSWORD]" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = l.PreStop(ctx, l.instance, l.with(nil, "sleep", "1000"))
	if !errors.Is(err, context.DeadlineExceeded) || err.Error() != "hooks.pre_stop: was killed before it had ended" {
		t.Errorf("got %v", err)
	}
	overridden, override := context.WithCancelCause(t.Context())
	defer time.AfterFunc(time.Second, func() { override(supervise.ErrOverridden) }).Stop()
	err = l.PreStop(overridden, l.instance, l.with(nil, "sleep", "1000"))
	if last := l.lastEvent(); !errors.Is(err, context.Canceled) || last.GetType() != "PreStopFailed" || !strings.Contains(last.GetMessage(), "killed without the signal") {
		t.Errorf("got %v, and %v", err, last)
	}
	err = l.PreStop(t.Context(), "nobody", l.with(nil, "true"))
	if !errors.Is(err, supervise.ErrGone) {
		t.Errorf("got %v", err)
	}
}

// quiet asks a probe by command while something happens, and holds that it does not
// fail by that.
func (l *lived) quiet(meanwhile func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	began, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		l.Probe(ctx, l.instance, l.with(&purserv1.Probes{Ready: shell("true"), Live: shell("true")}), true, func(p supervise.Probed) {
			if p.Probe == "ready" && p.OK {
				close(began)
			} else {
				l.t.Errorf("%+v", p)
			}
		})
	}()
	select {
	case <-began:
		meanwhile()
	case <-time.After(30 * time.Second):
		l.t.Error("no probe has succeeded")
	}
	cancel()
	<-ended
}

// While containerd is away nothing can be told of the container.
func testOutage(t *testing.T, l *lived) {
	before := l.failures("live")
	l.quiet(func() {
		l.daemon.Stop()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // several periods
		defer cancel()
		<-ctx.Done()
		l.daemon.Start()
	})
	if after := l.failures("live"); before != after {
		t.Errorf("counted failures: %s, then %s", before, after)
	}
	if got := l.verdict(&purserv1.Probes{Ready: shell("true")}); got != "ready ok" {
		t.Errorf("afterwards: %s", got)
	}
}

// Nor of one that has just ended, which its supervisor hears of.
func testDiesMeanwhile(t *testing.T, l *lived) {
	l.quiet(func() {
		if err := l.Signal(t.Context(), "dev", "a/f", "KILL"); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if v, err := l.w.supervisor.WaitFor(ctx, supervise.View.Settled); err != nil {
			t.Errorf("%v: %+v", err, v.Status)
		}
	})
}
