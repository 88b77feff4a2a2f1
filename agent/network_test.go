package agent

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/cni"
)

// A spec that names no mode gets the node's, unless it is in force with another one.
func TestNetworkModeIsFilledIn(t *testing.T) {
	plain := func() *purserv1.LaunchSpec { return &purserv1.LaunchSpec{App: new("a"), Function: new("f")} }
	of := func(n *purserv1.Network) *purserv1.LaunchSpec {
		s := plain()
		s.Environment, s.Network = new("dev"), n
		return s
	}
	mode := func(m string) *purserv1.LaunchSpec { return of(&purserv1.Network{Mode: &m}) }
	other := mode("host")
	other.Workdir = new("/elsewhere")
	ports := []*purserv1.Port{{Container: new(uint32(80))}}
	for name, tc := range map[string]struct {
		node        string // its default
		spec, there *purserv1.LaunchSpec
		want        *purserv1.LaunchSpec
	}{
		"the node's":              {"bridge", plain(), nil, mode("bridge")},
		"none stays out":          {"none", plain(), nil, of(nil)},
		"host":                    {"host", plain(), nil, mode("host")},
		"its own":                 {"bridge", mode("none"), nil, mode("none")},
		"what needs a bridge":     {"none", of(&purserv1.Network{Ports: ports}), nil, of(&purserv1.Network{Mode: new("bridge"), Ports: ports})},
		"in force, with another":  {"bridge", plain(), mode("host"), mode("host")},
		"in force, with none":     {"bridge", plain(), of(nil), of(nil)},
		"in force, with the same": {"bridge", plain(), mode("bridge"), mode("bridge")},
		"there, and changed":      {"bridge", plain(), other, mode("bridge")},
	} {
		t.Run(name, func(t *testing.T) {
			a := with()
			a.cfg = config.Default()
			a.cfg.Network.DefaultMode = tc.node
			var w *workload
			if tc.there != nil {
				w = newWorkload(a, &statev1.Workload{Environment: "dev", Id: "a/f", Spec: tc.there}, supervise.Status{})
			}
			before := proto.CloneOf(tc.spec)
			if got := a.normalised(tc.spec, w); !proto.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if !proto.Equal(before, tc.spec) {
				t.Errorf("what was given is now %v", tc.spec)
			}
		})
	}
}

// A node without CNI has no bridge; one whose CNI is broken says so, and moves nobody off it.
func TestDefaultNetworkMode(t *testing.T) {
	missing := fmt.Errorf("asking: %w", &cni.MissingError{Plugins: []string{"bridge"}})
	for name, tc := range map[string]struct {
		unusable error
		onBridge bool
		want     string
	}{
		"works":                         {nil, false, "bridge"},
		"no plugins":                    {missing, false, "none"},
		"no plugins, and it is on one":  {missing, true, "bridge"},
		"no network":                    {runtime.ErrNoBridge, false, "none"},
		"a configuration that is wrong": {errors.New("unexpected end of JSON input"), false, "bridge"},
	} {
		if got := modeFor(tc.unusable, tc.onBridge); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
