package inject

import (
	"maps"
	"slices"
	"strings"
)

// Layers are the places that set variables, lowest first.
type Layers struct {
	// Image is the ENV of the image's configuration, each NAME=VALUE. Entries of
	// another form are dropped; of two with one name the later wins.
	Image []string
	// ImageEnv is image.env of the launch spec.
	ImageEnv map[string]string
	// Secrets in the order listed; a later one wins.
	Secrets []Resolved
	// Env of the launch spec.
	Env map[string]string
	// Reserved are purser's own variables. Names that start with [ReservedPrefix]
	// count in this layer alone, so that an image cannot pass for purser.
	Reserved map[string]string
}

// Merge returns the environment that the layers make together. It depends on its
// argument alone.
func Merge(layers Layers) Environ {
	m := merger{}
	for _, assignment := range layers.Image {
		if name, value, ok := strings.Cut(assignment, "="); ok && name != "" {
			m.set(name, NewValue([]byte(value)), Origin{Layer: LayerImage})
		}
	}
	m.setAll(layers.ImageEnv, LayerImageEnv)
	for _, secret := range layers.Secrets {
		for _, v := range secret.Vars {
			m.set(v.Name, v.Value, Origin{Layer: LayerSecret, Secret: secret.Name, Key: v.Key})
		}
	}
	m.setAll(layers.Env, LayerEnv)
	m.setAll(layers.Reserved, LayerReserved)
	return m.environ()
}

// merger keeps, by name, every variable in the order in which it was set.
type merger map[string][]entry

func (m merger) setAll(variables map[string]string, layer Layer) {
	for name, value := range variables {
		m.set(name, NewValue([]byte(value)), Origin{Layer: layer})
	}
}

func (m merger) set(name string, value Value, origin Origin) {
	if strings.HasPrefix(name, ReservedPrefix) && origin.Layer != LayerReserved {
		return
	}
	m[name] = append(m[name], entry{name: name, value: value, origin: origin})
}

func (m merger) environ() Environ {
	var environ Environ
	for _, name := range slices.Sorted(maps.Keys(m)) {
		settings := m[name]
		last := len(settings) - 1
		environ.entries = append(environ.entries, settings[last])
		environ.hidden = append(environ.hidden, hiddenBy(settings[last].origin, settings[:last])...)
	}
	return environ
}

// hiddenBy reports those of the losers that come from a secret.
func hiddenBy(winner Origin, losers []entry) []Hidden {
	var hidden []Hidden
	for _, loser := range losers {
		if loser.origin.Layer == LayerSecret {
			hidden = append(hidden, Hidden{Variable: loser.name, Secret: loser.origin.Secret, Key: loser.origin.Key, By: winner})
		}
	}
	return hidden
}
