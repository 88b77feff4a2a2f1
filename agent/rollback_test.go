package agent

import (
	"strings"
	"testing"

	"github.com/purserd/purser/agent/rotate"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject/audit"
)

// failed has versions of the secret s be quarantined.
func (a *Agent) failed(t *testing.T, versions ...uint32) {
	t.Helper()
	for _, v := range versions {
		a.learn(t, func(b rotate.Book) rotate.Book {
			return b.WithVerdict(&statev1.Verdict{
				Environment: "dev", Set: []*purserv1.Pin{{Secret: "s", Version: v}}, TriedBy: "a/f", Reason: "exited with status 1",
			})
		})
	}
}

func (a *Agent) learn(t *testing.T, change func(rotate.Book) rotate.Book) {
	t.Helper()
	a.writing.Lock()
	defer a.writing.Unlock()
	if err := a.rotator.rewriteBook(change); err != nil {
		t.Fatal(err)
	}
}

// lastEvent is the last one of a kind.
func (a *Agent) lastEvent(t *testing.T, kind string) string {
	t.Helper()
	text := ""
	err := a.Events(t.Context(), &purserv1.EventsRequest{}, func(e *purserv1.Event) error {
		if e.GetType() == kind {
			text = e.GetMessage()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// lastRecord is the last record of the audit trail.
func (a *Agent) lastRecord(t *testing.T) *purserv1.AuditRecord {
	t.Helper()
	var last *purserv1.AuditRecord
	err := a.AuditTail(t.Context(), &purserv1.TailRequest{}, func(r *purserv1.TailResponse) error {
		last = r.GetRecord()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// A rollback goes to the newest version before the newest that is neither held nor
// quarantined, and says which one that is wherever it is told of.
func TestRollbackSkipsWhatIsBad(t *testing.T) {
	a, _ := rotating(t, "f")
	a.gate.open()
	for _, value := range []string{"two", "three", "four"} {
		a.set(t, value)
	}
	a.failed(t, 3, 4)
	got, err := a.RollbackSecret(t.Context(), &purserv1.RollbackRequest{Name: "s"})
	if err != nil || got.GetVersion() != 5 || got.GetCopyOf() != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	if text := a.lastEvent(t, "SecretRolledBack"); text != "version 5 with the content of version 2" {
		t.Errorf("event %q", text)
	}
	if r := a.lastRecord(t); r.GetAction() != string(audit.Rollback) || r.GetWhy() != "with the content of version 2" {
		t.Errorf("on record: %v", r)
	}
	info, err := a.secrets.Describe("dev", "s")
	if err != nil || info.Versions[0].CopyOf != 2 {
		t.Errorf("it is a copy of %d, %v", info.Versions[0].CopyOf, err)
	}
}

// What is held is no version to go back to either, unless it is named.
func TestRollbackSkipsWhatIsHeld(t *testing.T) {
	a, _ := rotating(t, "f")
	a.gate.open()
	a.set(t, "two")
	a.set(t, "three")
	if _, err := a.HoldSecret(t.Context(), &purserv1.HoldRequest{Name: "s", From: 2}); err != nil {
		t.Fatal(err)
	}
	got, err := a.RollbackSecret(t.Context(), &purserv1.RollbackRequest{Name: "s"})
	if err != nil || got.GetCopyOf() != 1 || !strings.Contains(got.GetNote(), "versions from 2 on are held") {
		t.Fatalf("got %v, %v", got, err)
	}
	if got, err = a.RollbackSecret(t.Context(), &purserv1.RollbackRequest{Name: "s", Version: 2}); err != nil || got.GetCopyOf() != 2 {
		t.Errorf("by its number: %v, %v", got, err)
	}
}

// What there is nothing to go back to for says why; what is quarantined has to be forced.
func TestRollbackRefuses(t *testing.T) {
	a, _ := rotating(t, "f")
	a.gate.open()
	refused := func(want string, r *purserv1.RollbackRequest) {
		t.Helper()
		if got, err := a.RollbackSecret(t.Context(), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want %q", got, err, want)
		}
	}
	refused("secret s in environment dev has no version before its newest", &purserv1.RollbackRequest{Name: "s"})
	refused("no secret none in environment prod", &purserv1.RollbackRequest{Name: "none", Environment: "prod"})
	a.set(t, "two")
	a.failed(t, 1)
	refused("before its newest, 2, is held or quarantined; purser secret versions -E dev s says why", &purserv1.RollbackRequest{Name: "s"})
	refused("version 1 of secret s in environment dev is quarantined on this node, as a/f failed with it: exited with status 1; to have its content all the same: --force", &purserv1.RollbackRequest{Name: "s", Version: 1})
	got, err := a.RollbackSecret(t.Context(), &purserv1.RollbackRequest{Name: "s", Version: 1, Force: true, Now: true})
	if err != nil || got.GetVersion() != 3 || got.GetCopyOf() != 1 {
		t.Fatalf("forced: %v, %v", got, err)
	}
	if !a.book().Hurried("dev", "s", 2, 3) {
		t.Error("it waits for windows")
	}
}
