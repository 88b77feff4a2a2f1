package cli

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// The states of a version that nobody is given, and of a workload that has all changes.
const (
	versionHeld        = "held"
	versionQuarantined = "quarantined"
	rotationCurrent    = "current"
	rotationHeld       = "held"
)

// withheldFields say which versions are not given out, and why; with none as yet, which
// would not be.
func (t *table) withheldFields(described *purserv1.DescribeResponse) {
	rows := len(t.rows)
	for _, v := range described.GetVersions() {
		t.field(withheldField(v))
	}
	if len(t.rows) == rows {
		t.field("Withheld", described.GetSecret().GetWithheld())
	}
}

// withheldField says of a version that it is not given out, and why; empty otherwise.
func withheldField(v *purserv1.SecretVersion) (name, value string) {
	names := map[string]string{versionHeld: "Held", versionQuarantined: "Quarantined"}
	if names[v.GetState()] == "" {
		return "", ""
	}
	return names[v.GetState()], strings.TrimSuffix(fmt.Sprintf("version %d: %s", v.GetVersion(), v.GetReason()), ": ")
}

// versionStyle is that of a version's state.
func versionStyle(state string) style {
	switch state {
	case versionQuarantined:
		return red
	case versionHeld:
		return yellow
	}
	return plainText
}

// rotationStyle is that of how a workload stands to the newest versions.
func rotationStyle(state string) style {
	if state == rotationCurrent {
		return green
	}
	return yellow
}

// secretUserTable shows which instance runs on which version of a secret.
func (s *session) secretUserTable(users []*purserv1.SecretUser) {
	if len(users) == 0 {
		return
	}
	fmt.Fprintln(s.out)
	t := s.newSecretUserTable()
	for _, u := range users {
		version := "absent"
		if u.GetVersion() != 0 {
			version = fmt.Sprint(u.GetVersion())
		}
		t.row(u.GetWorkload(), orDash(u.GetInstance()), version, u.GetState(), u.GetReason())
	}
	t.flush()
}

func (s *session) newSecretUserTable() *table {
	t := newTable(s.out, "USER", "INSTANCE", "VERSION", "STATE", "REASON")
	t.spare = []string{"INSTANCE", "REASON"}
	t.style("STATE", rotationStyle)
	return t
}

// rotationText says how a workload stands to the newest versions of its secrets; nothing
// when it has them.
func rotationText(r *purserv1.RotationStatus) string {
	if state := r.GetState(); state == "" || state == rotationCurrent {
		return ""
	}
	return strings.TrimSuffix(r.GetState()+": "+r.GetReason(), ": ")
}

// withRotation adds to the reason of a workload's state what its secrets are up to, and what
// has become of its newest spec. What is wrong for good comes first.
func withRotation(w *purserv1.Workload) string {
	secrets := rotationText(w.GetRotation())
	if secrets != "" {
		secrets = "secrets " + secrets
	}
	parts := []string{backedOutText(w), w.GetReason(), secrets}
	if w.GetRotation().GetState() == rotationHeld {
		parts = []string{backedOutText(w), secrets, w.GetReason()}
	}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "; ")
}

// backedOutText says which spec of a workload has failed, and what runs instead; nothing
// when the newest is in force.
func backedOutText(w *purserv1.Workload) string {
	b := w.GetBackedOut()
	if b == nil {
		return ""
	}
	return fmt.Sprintf("generation %d failed, and generation %d is in force again: %s", b.GetGeneration(), b.GetRunsGeneration(), b.GetReason())
}

// otherPins says which versions an instance has where they are not the workload's.
func otherPins(i *purserv1.Instance, pins []*purserv1.Pin) string {
	same := func(a, b *purserv1.Pin) bool { return proto.Equal(a, b) }
	if len(i.GetPins()) == 0 || slices.EqualFunc(i.GetPins(), pins, same) {
		return ""
	}
	return ", with " + pinsText(i.GetPins(), nil)
}
