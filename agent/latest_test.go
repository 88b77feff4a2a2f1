package agent

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/store"
)

// Versions that are quarantined together are given to nobody together, also to who names
// some of them, but by force.
func TestVersionsQuarantinedTogether(t *testing.T) {
	a, _ := rotating(t, "f")
	for v := range 3 {
		if _, err := a.secrets.Put(t.Context(), "dev", "tls", store.PutOptions{Replace: true, Data: map[string]inject.Value{"CERT": inject.NewValue([]byte(fmt.Sprint(v)))}}); err != nil {
			t.Fatal(err)
		}
	}
	a.set(t, "two")
	a.set(t, "three") // which are s and tls, 3 each
	set := []*purserv1.Pin{{Secret: "s", Version: 2}, {Secret: "tls", Version: 3}}
	a.learnt.set(a.book().WithVerdict(&statev1.Verdict{Environment: "dev", Set: set, TriedBy: "a/x", Reason: "exited with status 1"}))
	ref := func(name string, version uint32) *purserv1.SecretRef {
		r := &purserv1.SecretRef{Name: proto.String(name)}
		if version != 0 {
			r.Version = proto.Uint32(version)
		}
		return r
	}
	for name, tc := range map[string]struct {
		refs    []*purserv1.SecretRef
		pins    string
		refused bool
	}{
		"both newest": {[]*purserv1.SecretRef{ref("s", 0), ref("tls", 0)}, "s version 3, tls version 3", false},
		"one named":   {[]*purserv1.SecretRef{ref("s", 2), ref("tls", 0)}, "s version 2, tls version 2", false},
		"other named": {[]*purserv1.SecretRef{ref("s", 0), ref("tls", 3)}, "s version 3, tls version 3", false},
		"both named":  {[]*purserv1.SecretRef{ref("s", 2), ref("tls", 3)}, "s version 2, tls version 3", true},
	} {
		r, err := a.resolveLatest(t.Context(), "dev", tc.refs, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := setText(r.Pins); got != tc.pins {
			t.Errorf("%s: %s", name, got)
		}
		err = a.refuseQuarantinedSet("dev", tc.refs, r.Pins, false)
		if (err != nil) != tc.refused || err != nil && !strings.Contains(err.Error(), "s version 2, tls version 3 are quarantined on this node together, as a/x failed with them") {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.refuseQuarantinedSet("dev", tc.refs, r.Pins, true); err != nil {
			t.Errorf("%s, by force: %v", name, err)
		}
	}
}
