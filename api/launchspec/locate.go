package launchspec

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// locate finds where in the file a violation of a merged spec shows: the node
// to point at, and the path under which it was written. A field that is
// missing shows at what should hold it.
//
// It returns nil where the file has something else than the rule is about,
// which is a problem of its own already.
func (p *parser) locate(root *yaml.Node, v violation) (*yaml.Node, string) {
	where, current := root, root
	for i, step := range v.path {
		key, value := enter(current, step)
		if value == nil {
			if current.Kind != yaml.MappingNode && p.broken[p.paths[current]] {
				return nil, ""
			}
			return where, v.path[i:].after(p.paths[current])
		}
		current, where = value, value
		if key != nil && (v.forKey || value.Kind != yaml.ScalarNode || p.isNull(value)) {
			where = key
		}
	}
	return where, p.paths[current]
}

// enter takes one step; the key is nil within a list.
func enter(n *yaml.Node, step any) (key, value *yaml.Node) {
	if i, ok := step.(int); ok {
		if n.Kind == yaml.SequenceNode && i < len(n.Content) {
			return nil, n.Content[i]
		}
		return nil, nil
	}
	return entry(n, fmt.Sprint(step))
}
