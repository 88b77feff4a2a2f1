package ocispec

import (
	"fmt"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// version is one that every OCI runtime in use knows: crun 1.8 and runc 1.0
// refuse anything from 1.1 on.
const version = "1.0.2"

// Params are what a spec is built from.
type Params struct {
	// ID of the container; its hostname too.
	ID   string
	Spec *purserv1.LaunchSpec
	// Image is the configuration of the image.
	Image imagespec.ImageConfig
	// Accounts are the image's users and groups.
	Accounts Accounts
	// Mounts are those of Spec, as [CheckMounts] returned them.
	Mounts []*purserv1.Mount
	// CgroupParent is the cgroup that the container's own goes under.
	CgroupParent string
	Files        Files
	// NetNS is the path of the network namespace that the container is put into; when empty
	// it gets a new one, with loopback alone.
	NetNS string
	// Devices are what belongs to the node's devices that Spec names, without variables; nil
	// for none.
	Devices *cdi.ContainerEdits
	// SecretMounts are directories of secret files, the outer before those in them.
	SecretMounts []SecretMount
	Host         Host
	// ConsoleSize is that of the terminal, if the spec has one; nil when unknown.
	ConsoleSize *specs.Box
	// NoSwap keeps the container's memory out of swap space: it holds secrets.
	NoSwap bool
}

// Files are the paths, on the node, of files that are made for each container.
type Files struct {
	Hosts      string
	ResolvConf string
}

// SecretMount is a directory of secret files.
type SecretMount struct{ Source, Target string }

type option func(*specs.Spec, Params) error

// options in the order they are applied. seccomp is last: it allows what the
// capabilities call for.
var options = []option{
	base,
	args,
	terminal,
	account,
	workdir,
	rootFS,
	kernelMounts,
	cgroupMount,
	networkFiles,
	userMounts,
	namespaces,
	capabilities,
	rlimits,
	resources,
	devices,
	secretMounts,
	hiddenPaths,
	seccompProfile,
}

// Build returns the OCI spec of a container, but for its environment. Errors
// are faults of the launch spec or the image.
func Build(p Params) (*specs.Spec, error) {
	s := &specs.Spec{}
	for _, apply := range options {
		if err := apply(s, p); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func base(s *specs.Spec, p Params) error {
	score := p.Host.OOMScoreAdj
	*s = specs.Spec{
		Version: version,
		Process: &specs.Process{
			NoNewPrivileges: true,
			OOMScoreAdj:     &score,
		},
		Linux: &specs.Linux{
			CgroupsPath: p.CgroupParent + "/" + p.ID,
			Resources:   &specs.LinuxResources{},
		},
	}
	return nil
}

// Args is what is executed. It follows Kubernetes: command replaces the image's
// ENTRYPOINT and drops its CMD, args alone replaces the CMD.
func Args(spec *purserv1.LaunchSpec, image imagespec.ImageConfig) []string {
	argv := append([]string(nil), spec.GetCommand()...)
	if len(argv) == 0 {
		argv = append(argv, image.Entrypoint...)
	}
	switch {
	case len(spec.GetArgs()) > 0:
		argv = append(argv, spec.GetArgs()...)
	case len(spec.GetCommand()) == 0:
		argv = append(argv, image.Cmd...)
	}
	return argv
}

func args(s *specs.Spec, p Params) error {
	argv := Args(p.Spec, p.Image)
	if len(argv) == 0 {
		return fmt.Errorf("nothing to run: image %s has no command of its own; set command", p.Spec.GetImage().GetRef())
	}
	s.Process.Args = argv
	return nil
}

func terminal(s *specs.Spec, p Params) error {
	if p.Spec.GetTty() {
		s.Process.Terminal, s.Process.ConsoleSize = true, p.ConsoleSize
	}
	return nil
}

// User is whom a container runs as: the spec's user, or else the image's.
func User(spec *purserv1.LaunchSpec, image imagespec.ImageConfig, accounts Accounts) (specs.User, error) {
	name := image.User
	if spec.User != nil {
		name = spec.GetUser()
	}
	u, err := accounts.Lookup(name)
	if err != nil {
		return specs.User{}, fmt.Errorf("user %q: %w", name, err)
	}
	return u, nil
}

func account(s *specs.Spec, p Params) (err error) {
	s.Process.User, err = User(p.Spec, p.Image, p.Accounts)
	return err
}

// workdir needs no directory: the OCI runtime makes a missing one.
func workdir(s *specs.Spec, p Params) error {
	s.Process.Cwd = "/"
	if p.Image.WorkingDir != "" {
		s.Process.Cwd = p.Image.WorkingDir
	}
	if p.Spec.GetWorkdir() != "" {
		s.Process.Cwd = p.Spec.GetWorkdir()
	}
	if s.Process.Cwd[0] != '/' {
		s.Process.Cwd = "/" + s.Process.Cwd
	}
	return nil
}

func rootFS(s *specs.Spec, p Params) error {
	s.Root = &specs.Root{Path: "rootfs", Readonly: p.Spec.GetReadOnlyRoot()}
	return nil
}
