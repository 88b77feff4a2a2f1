package runtime

import (
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/purserd/purser/runtime/handover"
	"github.com/purserd/purser/runtime/handover/protocol"
)

// Environ is the merged environment of a container, in a form that does not show
// itself. inject.Environ is one.
type Environ interface {
	// Public returns the variables that come from no secret, as "NAME=value".
	Public() []string
	// Secret returns those that come from secrets. Together each name is there once.
	Secret() []string
	// HasSecret says whether there are any of those.
	HasSecret() bool
}

// inject gives containerd the part of an environment that is no secret, and the
// token with which the OCI runtime gets the rest; see package handover. forget is
// to be called when the launch is over.
func (r *Runtime) inject(spec *specs.Spec, in Instance, through handover.Installed) (forget func()) {
	if in.Env != nil {
		spec.Process.Env = in.Env.Public()
	}
	if !in.holder() {
		return func() {}
	}
	complete := handover.Spec(in.Env.Secret(), through)
	token, forget := r.handover.Expect(protocol.OpCreate, in.ID, func(document []byte, bundle string) ([]byte, error) {
		if err := r.handover.Hold(in.ID); err != nil {
			return nil, err
		}
		return complete(document, bundle)
	})
	if spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	spec.Annotations[protocol.Annotation] = token
	return forget
}

// injectExec gives a command that is run in a container the container's
// environment, with add over it, in the same way.
func (r *Runtime) injectExec(p *specs.Process, id string, env Environ, add map[string]string) (forget func()) {
	own := func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		_, replaced := add[name]
		return replaced
	}
	p.Env = slices.DeleteFunc(slices.Clone(p.Env), own)
	for _, name := range slices.Sorted(maps.Keys(add)) {
		p.Env = append(p.Env, name+"="+add[name])
	}
	if env == nil {
		return func() {}
	}
	secret := slices.DeleteFunc(env.Secret(), own)
	if len(secret) == 0 {
		return func() {}
	}
	token, forget := r.handover.Expect(protocol.OpExec, id, handover.Process(secret))
	p.Env = append(p.Env, protocol.EnvToken+"="+token)
	return forget
}
