package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// reached is a revision of a service that is reached at ports.
func reached(generation uint64, ready bool, ports ...uint32) *supervise.Revision {
	spec := &purserv1.LaunchSpec{Network: &purserv1.Network{Mode: new("bridge")}}
	for _, port := range ports {
		spec.Network.Ports = append(spec.Network.Ports, &purserv1.Port{Container: new(uint32(8000) + port), Host: new(port)})
	}
	if ready {
		spec.Probes = &purserv1.Probes{Ready: &purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: new(uint32(80))}}}
	}
	return supervise.NewRevision(generation, spec, nil)
}

func TestPortWish(t *testing.T) {
	one, two := reached(1, false, 80, 81), reached(2, true, 80, 82)
	instance := func(id string, r *supervise.Revision) *supervise.Instance {
		return &supervise.Instance{ID: id, Revision: r, StartedAt: time.Unix(1, 0), Addresses: []string{"10.0.0.1", "fd00::1"}}
	}
	kept := &supervise.Status{State: supervise.Running, Run: 1, Instance: instance("one", one)}
	leaving := instance("one", one)
	leaving.StopSince = time.Unix(2, 0)
	wants := func(r *supervise.Revision, run uint64) supervise.Desired {
		return supervise.Desired{Goal: supervise.Run, Run: run, Revision: r}
	}
	for name, tc := range map[string]struct {
		d    supervise.Desired
		s    supervise.Status
		want string
	}{
		"being created":           {wants(one, 1), supervise.Status{State: supervise.Creating, Run: 1}, "80 81"},
		"runs":                    {wants(one, 1), supervise.Status{State: supervise.Running, Run: 1, Instance: instance("one", one)}, "80 81 → one 8080 8081"},
		"is not ready":            {wants(two, 1), supervise.Status{State: supervise.Running, Run: 1, Instance: instance("two", two)}, "80 82"},
		"is ready":                {wants(two, 1), supervise.Status{State: supervise.Ready, Run: 1, Instance: instance("two", two)}, "80 82 → two 8080 8082"},
		"has crashed":             {wants(one, 1), supervise.Status{State: supervise.BackingOff, Run: 1}, "80 81"},
		"is being stopped":        {wants(two, 2), supervise.Status{State: supervise.Stopping, Run: 1, Instance: leaving}, "80 82"},
		"rolls":                   {wants(two, 2), supervise.Status{State: supervise.Creating, Run: 2, Kept: kept}, "80 81 82 → one 8080 8081"},
		"rolls, and has failed":   {wants(two, 2), supervise.Status{State: supervise.Failed, Run: 2, Kept: kept}, "80 81 82 → one 8080 8081"},
		"has failed":              {wants(two, 2), supervise.Status{State: supervise.Failed, Run: 2}, ""},
		"is to be stopped":        {supervise.Desired{Goal: supervise.Stop, Run: 1, Revision: one}, supervise.Status{State: supervise.Running, Run: 1, Instance: instance("one", one)}, ""},
		"is drained":              {supervise.Desired{Goal: supervise.Pause, Run: 1, Revision: one}, supervise.Status{State: supervise.Running, Run: 1, Instance: instance("one", one)}, ""},
		"has nothing to do there": {wants(reached(1, false), 1), supervise.Status{State: supervise.Running, Run: 1, Instance: instance("one", reached(1, false))}, ""},
	} {
		wish := portWish(supervise.View{Desired: tc.d, Status: tc.s}, nil)
		var got []string
		for _, p := range wish.Ports {
			got = append(got, fmt.Sprint(p.Host))
		}
		for _, target := range wish.Targets {
			got = append(got, "→", target.Instance)
			for _, p := range target.Ports {
				got = append(got, fmt.Sprint(p.Container))
			}
			if len(target.Addrs) != 2 {
				t.Errorf("%s: addresses %v", name, target.Addrs)
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %s, want %s", name, strings.Join(got, " "), tc.want)
		}
	}
}
