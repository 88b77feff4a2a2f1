package ocispec

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// What belongs to devices is beside all that a container has otherwise: no device but they
// may be used, and no mount of theirs is in the place of a secret.
func TestDevices(t *testing.T) {
	p := params(&purserv1.LaunchSpec{
		User: new("app"),
		Mounts: []*purserv1.Mount{
			{Source: new("/srv/lib"), Target: new("/lib/driver")},
			{Source: new("/srv/data"), Target: new("/data")},
		},
	})
	p.SecretMounts = []SecretMount{{Source: "/private/s", Target: "/run/secrets/s"}}
	p.Devices = &cdi.ContainerEdits{ContainerEdits: &cdispecs.ContainerEdits{
		DeviceNodes: []*cdispecs.DeviceNode{
			{Path: "/dev/card", Type: "c", Major: 195, Minor: 3, Permissions: "rw"},
			{Path: "/dev/seen", Type: "c", Major: 195, Minor: 4, Permissions: cdi.NoPermissions},
		},
		Mounts: []*cdispecs.Mount{
			{HostPath: "/usr/lib/driver", ContainerPath: "/lib/driver", Options: []string{"ro", "bind"}},
			{HostPath: "/usr/share/secrets", ContainerPath: "/run/secrets/s", Options: []string{"ro", "bind"}},
		},
		Hooks: []*cdispecs.Hook{
			{HookName: cdi.CreateContainerHook, Path: "/usr/bin/hook", Args: []string{"hook", "x"}},
			{HookName: cdi.CreateContainerHook, Path: "/usr/bin/hook", Env: []string{"OWN=1"}},
			{HookName: cdi.StartContainerHook, Path: "/usr/bin/inside"},
		},
		AdditionalGIDs: []uint32{44},
	}}
	s, err := Build(p)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "devices", withoutSeccomp(t, s))
	if rules := s.Linux.Resources.Devices; len(rules) != 2 || rules[0].Allow || !rules[1].Allow || *rules[1].Major != 195 || rules[1].Access != "rw" {
		t.Errorf("what may be used: %+v", rules)
	}
	sources := map[string][]string{}
	for _, m := range s.Mounts {
		sources[m.Destination] = append(sources[m.Destination], m.Source)
	}
	if last := s.Mounts[len(s.Mounts)-1]; last.Source != "/private/s" {
		t.Errorf("mounted last: %+v", last)
	}
	if got := sources["/lib/driver"]; len(got) != 1 || got[0] != "/usr/lib/driver" {
		t.Errorf("mounted at /lib/driver: %q", got)
	}
	if !before(s.Mounts, "/dev", "/dev/pts") || !before(s.Mounts, "/sys", "/sys/fs/cgroup") {
		t.Errorf("a mount hides another: %+v", s.Mounts)
	}
}

// before says whether something is mounted earlier than something else, if that is at all.
func before(mounts []specs.Mount, first, second string) bool {
	seen := false
	for _, m := range mounts {
		seen = seen || m.Destination == first
		if m.Destination == second {
			return seen
		}
	}
	return seen
}
