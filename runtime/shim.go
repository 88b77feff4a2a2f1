package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/purserd/purser/api/launchspec"
)

// A container's processes are looked after by a shim, a process of containerd's that
// outlives it. To start one is two executions of an 18 MB program. So the instances of
// an app may share one: a launch is shorter then and takes less memory, but when the
// shim dies, so do all the containers that it serves.

// shims decides which shim is to serve a container.
type shims interface {
	// assign is called before the container's record is made.
	assign(ctx context.Context, in Instance) (*assignment, error)
}

// assignment is the choice of a shim.
type assignment struct {
	// anchor is the ID of the container whose shim it is; empty for a shim of the
	// container's own.
	anchor string
	// settle is to be called when the container is made, or could not be and nothing
	// of it is left.
	settle func(ctx context.Context, made bool) error
}

// ownShims give each container its own.
type ownShims struct{}

func (ownShims) assign(context.Context, Instance) (*assignment, error) {
	return &assignment{settle: func(context.Context, bool) error { return nil }}, nil
}

// labelShim, on a container's record, names the anchor of its shim.
const labelShim = "purser.shim"

// groupAnnotation has a shim that is to be started give way to one that serves the
// group already. It is what joins shims before containerd 1.7, and is read by the shim
// alone.
const groupAnnotation = "io.containerd.runc.v2.group"

// annotate has the container join the group.
func (a *assignment) annotate(spec *specs.Spec) {
	if a.anchor == "" {
		return
	}
	if spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	spec.Annotations[groupAnnotation] = a.anchor
}

// label says in the container's record which shim it has. From 1.7 on containerd starts
// none for a container of a sandbox.
func (a *assignment) label(record *containers.Container) {
	if a.anchor == "" {
		return
	}
	record.SandboxID = a.anchor
	record.Labels[labelShim] = a.anchor
}

// sharedShims have the instances of an app share one, if they have the same OCI runtime.
type sharedShims struct{ r *Runtime }

func (s sharedShims) assign(ctx context.Context, in Instance) (*assignment, error) {
	group, err := s.r.groupOf(in)
	if err != nil {
		return nil, err
	}
	if group == nil {
		return ownShims{}.assign(ctx, in)
	}
	anchor, err := s.r.holdAnchor(ctx, *group)
	if err != nil {
		return nil, err
	}
	return &assignment{anchor: anchor, settle: func(ctx context.Context, made bool) error {
		return s.r.letGoOfAnchor(ctx, anchor, made)
	}}, nil
}

// group is who may share a shim.
type group struct {
	environment, app, runtime string
	// settings are those of the runtime.
	settings RuntimeConfig
}

// groupOf is nil for a container that has a shim of its own in any case. runsc has a
// sandbox for each container, beside which a shim does not count.
func (r *Runtime) groupOf(in Instance) (*group, error) {
	name, settings, path, err := r.chosen(launchspec.Runtime(in.Spec))
	if err != nil || r.isSandbox(path) {
		return nil, err
	}
	return &group{launchspec.Environment(in.Spec), in.Spec.GetApp(), name, settings}, nil
}

// String is for people.
func (g group) String() string { return g.environment + "/" + g.app + "/" + g.runtime }

// anchorPrefix begins the IDs of anchors.
const anchorPrefix = "shim-"

// name begins the IDs of the group's anchors. No two groups of a namespace have it.
func (g group) name(node string) string {
	// Maps are printed in the order of their keys.
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %v", node, g.environment, g.app, g.runtime, g.settings.Path, g.settings.Options))
	return anchorPrefix + hex.EncodeToString(sum[:8])
}

// groupName is what an anchor's ID begins with.
func groupName(anchor string) string {
	return anchor[:max(0, strings.LastIndexByte(anchor, '-'))]
}
