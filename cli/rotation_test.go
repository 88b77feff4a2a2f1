package cli

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"connectrpc.com/connect"

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
		"":                                  {},
		"not ready":                         {Reason: "not ready"},
		"secrets stale":                     {Rotation: stale},
		"not ready; secrets stale":          {Reason: "not ready", Rotation: stale},
		"secrets held: why; to be replaced": {Reason: "to be replaced", Rotation: &purserv1.RotationStatus{State: "held", Reason: "why"}},
		"generation 2 failed, and generation 1 is in force again: why; to be replaced": {
			Reason: "to be replaced", BackedOut: &purserv1.BackedOut{Generation: 2, RunsGeneration: 1, Reason: "why"},
		},
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
	for want, retried := range map[string]*purserv1.RetryResponse{
		"no version has failed; a launch gets version 1":                                 {Version: 1},
		"version 4 is tried again":                                                       {Versions: []uint32{4}, Freed: []uint32{4}, Version: 4},
		"version 4 is tried again; versions 2, 3 are quarantined no more, and not tried": {Versions: []uint32{4}, Freed: []uint32{2, 3, 4}, Version: 4},
		"version 3 is quarantined no more, and not tried; a launch gets version 7":       {Freed: []uint32{3}, Version: 7},
		"versions 3, 7 are quarantined no more, and not tried; no version can be had":    {Freed: []uint32{3, 7}},
	} {
		if got := retriedText(retried); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestHeldText(t *testing.T) {
	for want, held := range map[string]*purserv1.HoldResponse{
		"held from version 7 on":                             {From: 7},
		"is held from version 7 on already, and stays so":    {From: 7, WasFrom: 7},
		"held from version 3 on, which was from 7 on before": {From: 3, WasFrom: 7},
	} {
		if got := heldText(held); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReleasedText(t *testing.T) {
	for want, released := range map[string]*purserv1.ReleaseResponse{
		"released; a launch gets version 7":                              {Version: 7, WasFrom: 7},
		"released; a launch gets version 6, as version 7 is quarantined": {Version: 6, WasFrom: 7, Withheld: "version 7 is quarantined"},
		"was not held; a launch gets version 9":                          {Version: 9},
		"released; no version can be had, as version 1 is quarantined":   {WasFrom: 1, Withheld: "version 1 is quarantined"},
	} {
		if got := releasedText(released); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Of a call that broke it is said how to see what came of it; of any other error nothing.
func TestUnsure(t *testing.T) {
	s := &session{environment: "dev"}
	reset := connect.NewError(connect.CodeUnavailable, fmt.Errorf("read unix: %w", syscall.ECONNRESET))
	for err, want := range map[error][]string{
		reset: {"purser: the connection to the agent has broken: it has ended, or is being restarted", "  whether it was done is not known: see purser secret versions -E dev api"},
		connect.NewError(connect.CodeNotFound, errors.New("no secret api")): {"purser: no secret api"},
	} {
		if got := describe(unsure(rename(err, keyOf), s.lookAt("api")), "unix:///x"); !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	}
	if got := describe(reset, "unix:///x"); len(got) != 2 || got[1] != "  try again when it is back; what was to be changed may have been or not" {
		t.Errorf("of any call: %q", got)
	}
}
