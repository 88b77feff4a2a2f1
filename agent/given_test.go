package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
)

// valueOf is the value of a version of the secret.
func valueOf(version uint32) string { return fmt.Sprintf("value of version %d", version) }

// reading is an agent with a service that has the secret s in files, of version 1.
func reading(t *testing.T) (*Agent, *workload) {
	t.Helper()
	a, _ := rotating(t, "f")
	a.gate.open()
	a.set(t, valueOf(2)) // version 1 is the rig's
	w := a.lookup("dev", "a/f")
	ask(t, a, func(r *statev1.Workload) {
		r.Spec.Secrets[0].Env, r.Pins = proto.Bool(false), []*purserv1.Pin{{Secret: "s", Version: 2}}
	})
	v, _ := w.supervisor.View()
	v.Status.Instance.Revision = supervise.NewRevision(1, w.record().GetSpec(), w.record().GetPins())
	a.rotator.attended[w.key] = true // nobody is at its files but the test
	return a, w
}

// tryFiles has the next version be tried in files.
func (a *Agent) tryFiles(t *testing.T, version uint32) {
	t.Helper()
	if got := a.set(t, valueOf(version)); got != version {
		t.Fatalf("set is version %d", got)
	}
	s, all := a.survey(t)
	s.book = a.learnt.get()
	f := all["a/f"]
	trial := &statev1.Trial{Pins: f.Move.Pins, Set: f.Move.Set, Keys: f.Move.Keys, Mode: rotate.ModeRefresh, Try: 1}
	if err := a.rotator.do(t.Context(), s, rotate.Action{Kind: rotate.Begin, Workload: f, Trial: trial}); err != nil {
		t.Fatal(err)
	}
}

// seen are the versions of whose values anything is seen of what an instance says.
func seen(t *testing.T, w *workload, instance string, versions ...uint32) []uint32 {
	t.Helper()
	v, _ := w.supervisor.View()
	m, err := w.matcherOf(t.Context(), instance, v.Status.Instance.Revision, nil)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(versions, func(n uint32) bool { return !strings.Contains(m.Text("it has "+valueOf(n)), valueOf(n)) })
}

// What an instance was given in files is not seen of it for as long as it is there, whatever
// becomes of the trial, and is kept for that; the next instance is not concerned.
func TestGivenIsNotSeen(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, a *Agent){
		"under way": func(*testing.T, *Agent) {},
		"restart":   func(t *testing.T, a *Agent) { _, _ = a.Restart(t.Context(), "dev", "a/f", false) },
		"stop": func(t *testing.T, a *Agent) {
			ask(t, a, func(r *statev1.Workload) { r.Goal = string(supervise.Stop); giveUpTrial(r) })
		},
		"put back":    func(t *testing.T, a *Agent) { ask(t, a, giveUpTrial) },
		"a new spec":  func(t *testing.T, a *Agent) { ask(t, a, func(r *statev1.Workload) { r.Generation++; renew(r) }) },
		"the next":    func(t *testing.T, a *Agent) { ask(t, a, giveUpTrial); a.tryFiles(t, 4); ask(t, a, giveUpTrial) },
		"another try": func(t *testing.T, a *Agent) { ask(t, a, func(r *statev1.Workload) { r.Trial.Instance = "" }) },
	} {
		t.Run(name, func(t *testing.T) {
			a, w := reading(t)
			a.tryFiles(t, 3)
			end(t, a)
			if got := seen(t, w, "of-a/f", 2, 3); len(got) > 0 {
				t.Errorf("seen are versions %v", got)
			}
			if got := a.pinned("dev", "s"); !slices.Contains(got, 3) {
				t.Errorf("kept are versions %v", got)
			}
			if got := seen(t, w, "another", 3); len(got) == 0 {
				t.Error("of another instance version 3 is not seen either")
			}
		})
	}
}

// An instance whose files were replaced may say what it was made with.
func TestGivenBeforeIsNotSeen(t *testing.T) {
	a, w := reading(t)
	a.tryFiles(t, 3)
	a.act(t, rotate.Commit)
	v, _ := w.supervisor.View()
	v.Status.Instance.Revision = supervise.NewRevision(1, w.record().GetSpec(), w.record().GetPins())
	a.tryFiles(t, 4)
	if got := seen(t, w, "of-a/f", 2, 3, 4); len(got) > 0 {
		t.Errorf("seen are versions %v", got)
	}
}

// A record of an earlier agent tells of the trial, and of what was delivered last.
func TestGivenByAnEarlierAgent(t *testing.T) {
	a, w := reading(t)
	a.tryFiles(t, 3)
	ask(t, a, func(r *statev1.Workload) { r.Given, r.DeliveredTo = nil, "of-a/f" })
	ask(t, a, func(r *statev1.Workload) { r.Pins = []*purserv1.Pin{{Secret: "s", Version: 1}} })
	if got := givenTo(w.record(), "of-a/f"); fmt.Sprint(got) != fmt.Sprint([]*purserv1.Pin{{Secret: "s", Version: 3}, {Secret: "s", Version: 1}}) {
		t.Errorf("given are %v", got)
	}
}

// What is known is bounded, and goes with the instance.
func TestGivenIsBounded(t *testing.T) {
	r := &statev1.Workload{Given: []*statev1.Given{{Instance: "gone"}}}
	i := &supervise.Instance{ID: "i", Revision: &supervise.Revision{Pins: []*purserv1.Pin{{Secret: "s", Version: 1}, {Secret: "other", Version: 1}}}, StartedAt: time.Now()}
	v := supervise.View{Status: supervise.Status{Instance: i}}
	for n := range uint32(mostGiven + 50) {
		give(r, v, i, []*purserv1.Pin{{Secret: "s", Version: n + 1}, {Secret: "other", Version: 1}})
	}
	if len(r.GetGiven()) != 1 {
		t.Errorf("known of %d instances", len(r.GetGiven()))
	}
	got := givenTo(r, "i")
	if last := got[len(got)-1]; len(got) != mostGiven+1 || last.GetVersion() != mostGiven+50 || !slices.ContainsFunc(got, func(p *purserv1.Pin) bool { return p.GetSecret() == "other" }) {
		t.Errorf("%d are known, the last %v", len(got), last)
	}
}

// What a container is given while a command runs in it is not seen of the command, be it a
// probe's or somebody's.
func TestGivenWhileACommandRuns(t *testing.T) {
	l := live(t, rig.V24, "exec sleep 1000")
	const newer = "swordfish-of-the-database"
	if _, err := l.HoldSecret(t.Context(), &purserv1.HoldRequest{Name: "db"}); err != nil { // so that it stays where it is
		t.Fatal(err)
	}
	if _, err := l.PutSecret(t.Context(), &purserv1.PutRequest{Name: "db", Data: map[string][]byte{"PASSWORD": []byte(newer)}}); err != nil {
		t.Fatal(err)
	}
	w := l.containers.w
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	inside := func(script string, out io.Writer) error {
		_, err := l.Exec(ctx, &purserv1.ExecStart{Environment: "dev", Id: "a/f", Command: []string{"sh", "-c", script}}, ExecIO{Stdout: out, Stderr: io.Discard})
		return err
	}
	says := func(name string) string {
		return fmt.Sprintf("touch /%s; until test -e /given; do sleep 0.05; done; echo %s $PASSWORD %s''%s; exit 3", name, name, newer[:9], newer[9:]) // a command that holds a value is refused
	}
	var running sync.WaitGroup
	var probe error
	var shell strings.Builder
	running.Go(func() { probe = l.command(ctx, l.instance, l.revision, []string{"sh", "-c", says("probe")}) })
	running.Go(func() { _ = inside(says("shell"), &shell) })
	if err := inside("until test -e /probe -a -e /shell; do sleep 0.05; done", io.Discard); err != nil {
		t.Fatal(err)
	}
	ask(t, l.Agent, func(r *statev1.Workload) {
		v, _ := w.supervisor.View()
		give(r, v, v.Status.Instance, []*purserv1.Pin{{Secret: "db", Version: 2}})
	})
	if err := inside("touch /given", io.Discard); err != nil {
		t.Fatal(err)
	}
	running.Wait()
	const hidden = "[secret:db/PASSWORD] [secret:db/PASSWORD]"
	if got := fmt.Sprint(probe); got != "exited with status 3: probe "+hidden {
		t.Errorf("the probe: %s", got)
	}
	if got := shell.String(); got != "shell "+hidden+"\n" {
		t.Errorf("the shell: %s", got)
	}

	// What nobody has any more cannot be looked for.
	if _, err := l.DeleteSecret(t.Context(), "dev", "db", false); err != nil {
		t.Fatal(err)
	}
	ask(t, l.Agent, func(r *statev1.Workload) {
		r.Given[0].Pins = append(r.Given[0].Pins, &purserv1.Pin{Secret: "db", Version: 3})
	})
	if err := l.command(ctx, l.instance, l.revision, []string{"sh", "-c", "echo something; exit 3"}); !errors.Is(err, errCommand) || strings.Contains(err.Error(), "something") {
		t.Errorf("with a version that was destroyed: %v", err)
	}
	if err := l.command(ctx, l.instance, l.revision, []string{"sh", "-c", "echo something"}); err != nil {
		t.Errorf("of a command that is well: %v", err)
	}
	if err := inside("true", io.Discard); err != nil {
		t.Errorf("in a shell: %v", err)
	}
}

// Of an answer without end its beginning is kept, and nothing of a value that is cut off.
func TestAnswerIsBounded(t *testing.T) {
	const value = "a value that is cut off"
	said := answer{}
	_, _ = said.stderr().Write([]byte("why: "))
	for _, text := range []string{strings.Repeat(".", maxHeard-15), value, strings.Repeat(value, maxHeard)} {
		_, _ = said.stdout().Write([]byte(text))
	}
	if said.size != maxHeard || len(said.parts) != 2 {
		t.Errorf("%d bytes in %d parts are kept", said.size, len(said.parts))
	}
	m := redactions(t, value).Matcher()
	last := said.parts[1].text
	said.parts = []part{said.parts[0], {text: slices.Clone(last[len(last)-20:])}}
	if got := said.with("ended", m, func(uint64) {}).Error(); got != "ended: why: ..........[partial]…" {
		t.Errorf("shown is %q", got)
	}
}
