package runtime

import (
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Environ is the merged environment of a container, secrets included, in a
// form that does not show itself. inject.Environ is one.
type Environ interface {
	// Reveal returns the variables as "NAME=value", each name once.
	Reveal() []string
}

// inject puts the environment into an OCI spec. No other code gives values of
// secrets to containerd: when they no longer may pass through it, this is what
// changes.
func inject(spec *specs.Spec, env Environ) {
	if env != nil {
		spec.Process.Env = env.Reveal()
	}
}

// injectExec gives a command that is run in a container the container's
// environment, with add over it.
func injectExec(p *specs.Process, container *specs.Process, add map[string]string) {
	own := func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		_, replaced := add[name]
		return replaced
	}
	p.Env = slices.DeleteFunc(slices.Clone(container.Env), own)
	for _, name := range slices.Sorted(maps.Keys(add)) {
		p.Env = append(p.Env, name+"="+add[name])
	}
}
