package ocispec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
	group  = "root:x:0:\napp:x:1000:\nextra:x:2000:app\nroots:x:2001:root\n"
)

// params of a container whose spec and image say nothing that they need not.
func params(spec *purserv1.LaunchSpec) Params {
	if spec.Image == nil {
		spec.Image = &purserv1.Image{Ref: new("busybox")}
	}
	return Params{
		ID:           "c0ffee",
		Spec:         spec,
		Image:        imagespec.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"point"}},
		Accounts:     Accounts{Passwd: []byte(passwd), Group: []byte(group)},
		Mounts:       spec.GetMounts(),
		CgroupParent: "/purser",
		Files:        Files{Hosts: "/run/purser/hosts", ResolvConf: "/run/purser/resolv.conf"},
		Host:         Host{MaxOpenFiles: 1 << 20, MaxCore: 1 << 40, SwapAccounting: true},
	}
}

func TestGolden(t *testing.T) {
	full := params(&purserv1.LaunchSpec{
		Command:      []string{"python", "-m", "rag"},
		Args:         []string{"--verbose"},
		User:         new("app"),
		Workdir:      new("/app"),
		ReadOnlyRoot: new(true),
		Resources:    &purserv1.Resources{Cpu: new(0.5), Memory: new("256Mi"), Pids: new(uint32(64))},
		Mounts: []*purserv1.Mount{
			{Source: new("/srv/data/in"), Target: new("/data/in"), ReadOnly: new(true)},
			{Source: new("/srv/data"), Target: new("/data")},
			{Type: new("tmpfs"), Target: new("/tmp"), Size: new("16Mi")},
			{Source: new("/srv/hosts"), Target: new("/etc/hosts")},
		},
	})
	host := params(&purserv1.LaunchSpec{Network: &purserv1.Network{Mode: new("host")}})
	small := params(&purserv1.LaunchSpec{Resources: &purserv1.Resources{Cpu: new(0.01), Memory: new("64M")}})
	small.Host = Host{MaxOpenFiles: 1024, MaxCore: 0, OOMScoreAdj: 300, CgroupV2: true}
	small.Image.User, small.Image.WorkingDir = "app:extra", "relative/dir"

	for name, p := range map[string]Params{
		"minimal":      params(&purserv1.LaunchSpec{}),
		"full":         full,
		"host-network": host,
		"small-node":   small,
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := Build(p)
			if err != nil {
				t.Fatal(err)
			}
			if len(spec.Process.Env) != 0 {
				t.Errorf("it has an environment: %q", spec.Process.Env)
			}
			golden(t, name, withoutSeccomp(t, spec))
		})
	}
}

// withoutSeccomp takes the profile out, which is containerd's, hundreds of
// lines long, and the same everywhere; TestSeccomp looks at it.
func withoutSeccomp(t *testing.T, s *specs.Spec) *specs.Spec {
	t.Helper()
	if s.Linux.Seccomp == nil {
		t.Error("no seccomp profile")
	}
	c, linux := *s, *s.Linux
	linux.Seccomp = nil
	c.Linux = &linux
	return &c
}

func golden(t *testing.T, name string, spec *specs.Spec) {
	t.Helper()
	got, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (see it with -update and git diff):\n%s", file, got)
	}
}

func TestSeccomp(t *testing.T) {
	s, err := Build(params(&purserv1.LaunchSpec{}))
	if err != nil {
		t.Fatal(err)
	}
	profile := s.Linux.Seccomp
	if profile.DefaultAction != specs.ActErrno || len(profile.Architectures) != 1 {
		t.Errorf("default %s, architectures %v", profile.DefaultAction, profile.Architectures)
	}
	allows := func(name string) bool {
		return slices.ContainsFunc(profile.Syscalls, func(c specs.LinuxSyscall) bool {
			return c.Action == specs.ActAllow && len(c.Args) == 0 && slices.Contains(c.Names, name)
		})
	}
	for name, want := range map[string]bool{
		"read": true, "execve": true, "chroot": true,
		"mount": false, "bpf": false, "kexec_load": false, "init_module": false, "unshare": false,
	} {
		if allows(name) != want {
			t.Errorf("%s allowed: %v", name, allows(name))
		}
	}
}

func TestArgs(t *testing.T) {
	// The table of Kubernetes' documentation, "define a command and arguments".
	for _, c := range []struct {
		entrypoint, cmd, command, args []string
		want                           string
	}{
		{[]string{"/ep-1"}, []string{"foo bar"}, nil, nil, "/ep-1|foo bar"},
		{[]string{"/ep-1"}, []string{"foo bar"}, []string{"/ep-2"}, nil, "/ep-2"},
		{[]string{"/ep-1"}, []string{"foo bar"}, nil, []string{"zoo boo"}, "/ep-1|zoo boo"},
		{[]string{"/ep-1"}, []string{"foo bar"}, []string{"/ep-2"}, []string{"zoo boo"}, "/ep-2|zoo boo"},
		{nil, []string{"sh"}, nil, nil, "sh"},
		{nil, nil, nil, []string{"only", "args"}, "only|args"},
	} {
		p := params(&purserv1.LaunchSpec{Command: c.command, Args: c.args})
		p.Image.Entrypoint, p.Image.Cmd = c.entrypoint, c.cmd
		s, err := Build(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.Process.Args, "|"); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
	p := params(&purserv1.LaunchSpec{})
	p.Image.Entrypoint, p.Image.Cmd = nil, nil
	if _, err := Build(p); err == nil || !strings.Contains(err.Error(), "nothing to run") {
		t.Errorf("nothing to run: %v", err)
	}
}

// A container that holds secrets is never swapped, whatever its limits.
func TestNoSwap(t *testing.T) {
	for name, c := range map[string]struct {
		v2     bool
		memory *string
	}{"v1": {}, "v1, limited": {memory: new("64Mi")}, "v2": {v2: true}, "v2, limited": {v2: true, memory: new("64Mi")}} {
		p := params(&purserv1.LaunchSpec{Resources: &purserv1.Resources{Memory: c.memory}})
		p.Host.CgroupV2, p.NoSwap = c.v2, true
		s, err := Build(p)
		if err != nil {
			t.Fatal(err)
		}
		r := s.Linux.Resources
		if c.v2 && r.Unified["memory.swap.max"] != "0" || !c.v2 && (r.Memory.Swappiness == nil || *r.Memory.Swappiness != 0) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestUsers(t *testing.T) {
	for name, want := range map[string]specs.User{
		"":            {AdditionalGids: []uint32{2001}},
		"root":        {AdditionalGids: []uint32{2001}},
		"app":         {UID: 1000, GID: 1000, AdditionalGids: []uint32{2000}},
		"1000":        {UID: 1000, GID: 1000, AdditionalGids: []uint32{2000}},
		"app:extra":   {UID: 1000, GID: 2000},
		"app:0":       {UID: 1000},
		"4242":        {UID: 4242},
		"4242:4343":   {UID: 4242, GID: 4343},
		"app:unknown": {},
		"unknown":     {},
		"-1":          {},
		"4294967295":  {},
	} {
		got, err := Accounts{Passwd: []byte(passwd), Group: []byte(group)}.Lookup(name)
		if known := !reflect.DeepEqual(want, specs.User{}); known != (err == nil) {
			t.Errorf("%q: %v", name, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", name, got, want)
		}
	}
	if u, err := (Accounts{}).Lookup("1000"); err != nil || u.UID != 1000 {
		t.Errorf("an image without accounts: %+v, %v", u, err)
	}
}

func TestBuildChangesNothingItIsGiven(t *testing.T) {
	p := params(&purserv1.LaunchSpec{
		Args:   []string{"a"},
		Mounts: []*purserv1.Mount{{Source: new("/b/c"), Target: new("/b/c")}, {Source: new("/a"), Target: new("/a")}},
	})
	p.Image.Entrypoint = append(make([]string, 0, 8), "/entry")
	before := proto.CloneOf(p.Spec)
	first, err := Build(p)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build(p)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, p.Spec) || p.Mounts[0].GetTarget() != "/b/c" || !reflect.DeepEqual(first, second) {
		t.Error("the parameters were changed")
	}
}
