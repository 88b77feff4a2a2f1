package cli

import (
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestRotationText(t *testing.T) {
	for want, r := range map[string]*purserv1.RotationStatus{
		"rotating":             {State: "rotating"},
		"waiting: for a while": {State: "waiting", Reason: "for a while"},
	} {
		if got := rotationText(r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, r := range []*purserv1.RotationStatus{nil, {}, {State: "current"}} {
		if got := rotationText(r); got != "" {
			t.Errorf("%v: got %q", r, got)
		}
	}
}

func TestWithRotation(t *testing.T) {
	stale := &purserv1.RotationStatus{State: "stale"}
	for want, w := range map[string]*purserv1.Workload{
		"":                         {},
		"not ready":                {Reason: "not ready"},
		"secrets stale":            {Rotation: stale},
		"not ready; secrets stale": {Reason: "not ready", Rotation: stale},
	} {
		if got := withRotation(w); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// In the middle of a rotation there is an instance of either side.
func TestOtherPins(t *testing.T) {
	pins := []*purserv1.Pin{{Secret: "db", Version: 1}, {Secret: "tls"}}
	for want, i := range map[string]*purserv1.Instance{
		"":                                     {},
		", with db version 2, tls (absent)":    {Pins: []*purserv1.Pin{{Secret: "db", Version: 2}, {Secret: "tls"}}},
		", with db version 1, tls version 300": {Pins: []*purserv1.Pin{{Secret: "db", Version: 1}, {Secret: "tls", Version: 300}}},
	} {
		if got := otherPins(i, pins); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := otherPins(&purserv1.Instance{Pins: pins}, pins); got != "" {
		t.Errorf("of the same: got %q", got)
	}
}

func TestRetriedText(t *testing.T) {
	for want, versions := range map[string][]uint32{
		"no version has failed": nil, "version 4 is tried again": {4}, "versions 4, 6 are tried again": {4, 6},
	} {
		if got := retriedText(versions); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
