package inject

import (
	"slices"
	"strings"
)

// Environ is the whole environment of a container: every variable once, sorted by
// name. Like [Value] it shows "[redacted]" to everything that formats or encodes
// it. The zero Environ is empty.
type Environ struct {
	mark
	entries []entry // sorted by name
	hidden  []Hidden
}

// entry is one variable and where it comes from.
type entry struct {
	name   string
	value  Value
	origin Origin
}

// Layer is a place where variables are set.
type Layer string

// The layers, lowest first.
const (
	LayerImage    Layer = "image"     // ENV of the image's own configuration
	LayerImageEnv Layer = "image.env" // image.env of the launch spec
	LayerSecret   Layer = "secret"    // a secret
	LayerEnv      Layer = "env"       // env of the launch spec
	LayerReserved Layer = "reserved"  // purser itself
)

// Origin tells where a variable comes from.
type Origin struct {
	Layer Layer
	// Secret and Key name the source when Layer is [LayerSecret].
	Secret, Key string
}

// String returns the layer's name, and the secret's where there is one.
func (o Origin) String() string {
	if o.Layer == LayerSecret {
		return "secret " + o.Secret
	}
	return string(o.Layer)
}

// Hidden is a key of a secret that does not reach the container, because something
// above it sets the same variable.
type Hidden struct {
	// Variable that both set.
	Variable string
	// Secret and Key that lost.
	Secret, Key string
	// By is what won: env, or a secret listed later.
	By Origin
}

// Public returns the variables that come from no secret as NAME=VALUE, sorted by
// name.
func (e Environ) Public() []string {
	return e.reveal(func(o Origin) bool { return o.Layer != LayerSecret })
}

// Secret returns those that come from secrets. Only what hands the environment to
// the container may call it.
func (e Environ) Secret() []string {
	return e.reveal(func(o Origin) bool { return o.Layer == LayerSecret })
}

// HasSecret says whether a variable comes from a secret.
func (e Environ) HasSecret() bool {
	return slices.ContainsFunc(e.entries, func(v entry) bool { return v.origin.Layer == LayerSecret })
}

func (e Environ) reveal(which func(Origin) bool) []string {
	var env []string
	for _, entry := range e.entries {
		if which(entry.origin) {
			entry.value.use(func(content []byte) { env = append(env, entry.name+"="+string(content)) })
		}
	}
	return env
}

// Lookup returns the value of a variable.
func (e Environ) Lookup(name string) (Value, bool) {
	entry, ok := e.find(name)
	return entry.value, ok
}

// Origin tells where the value of a variable comes from.
func (e Environ) Origin(name string) (Origin, bool) {
	entry, ok := e.find(name)
	return entry.origin, ok
}

// Hidden returns the keys of secrets that something else hides, sorted by variable
// and within one in the order that the secrets are listed.
func (e Environ) Hidden() []Hidden { return slices.Clone(e.hidden) }

func (e Environ) find(name string) (entry, bool) {
	i, ok := slices.BinarySearchFunc(e.entries, name, func(e entry, name string) int {
		return strings.Compare(e.name, name)
	})
	if !ok {
		return entry{}, false
	}
	return e.entries[i], true
}
