package launchspec

import (
	"slices"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// inherit merges an app file's defaults into a function's node. It makes new
// mappings and lists and shares all else, so that every value keeps the line
// it was written on, and defaults can be merged into the next function.
func (p *parser) inherit(md protoreflect.MessageDescriptor, defaults, function *yaml.Node) *yaml.Node {
	if defaults == nil || defaults.Kind != yaml.MappingNode || function.Kind != yaml.MappingNode {
		return function
	}
	return p.mergeMapping(p.withoutReplaced(md, defaults, function), function, func(name string, d, f *yaml.Node) *yaml.Node {
		return p.mergeField(md.Fields().ByName(protoreflect.Name(name)), d, f)
	})
}

// withoutReplaced leaves out of the defaults what the function has another field in the
// place of, where a message can have only one of them.
func (p *parser) withoutReplaced(md protoreflect.MessageDescriptor, defaults, function *yaml.Node) *yaml.Node {
	for _, names := range alternatives(md) {
		if !slices.ContainsFunc(names, func(name string) bool { return p.has(function, name) }) {
			continue
		}
		left := p.emptied(defaults)
		for key, value := range pairs(defaults) {
			if !slices.Contains(names, key.Value) || p.has(function, key.Value) {
				left.Content = append(left.Content, key, value)
			}
		}
		defaults = left
	}
	return defaults
}

// has tells whether a mapping has a value under a key.
func (p *parser) has(n *yaml.Node, name string) bool {
	_, value := entry(n, name)
	return value != nil && !p.isNull(value)
}

// mergeMapping keeps the function's order; what only the defaults have follows.
func (p *parser) mergeMapping(defaults, function *yaml.Node, merge func(name string, d, f *yaml.Node) *yaml.Node) *yaml.Node {
	merged := p.emptied(function)
	inherited := map[string]int{}
	for i := 0; i+1 < len(defaults.Content); i += 2 {
		inherited[defaults.Content[i].Value] = i
	}
	for key, value := range pairs(function) {
		if i, ok := inherited[key.Value]; ok {
			delete(inherited, key.Value)
			key, value = p.mergeEntry(defaults.Content[i], defaults.Content[i+1], key, value, merge)
		}
		merged.Content = append(merged.Content, key, value)
	}
	for key, value := range pairs(defaults) {
		if _, ok := inherited[key.Value]; ok {
			merged.Content = append(merged.Content, key, value)
		}
	}
	return merged
}

// mergeEntry merges what both sides have under one key; a null on either side
// counts as absent.
func (p *parser) mergeEntry(dkey, dvalue, fkey, fvalue *yaml.Node, merge func(name string, d, f *yaml.Node) *yaml.Node) (key, value *yaml.Node) {
	switch {
	case p.isNull(dvalue):
		return fkey, fvalue
	case p.isNull(fvalue):
		return dkey, dvalue
	}
	return fkey, merge(fkey.Value, dvalue, fvalue)
}

// emptied makes a node that stands where another one does.
func (p *parser) emptied(n *yaml.Node) *yaml.Node {
	empty := *n
	empty.Content = nil
	p.paths[&empty] = p.paths[n]
	return &empty
}

// mergeField merges a value that both sides have. Where one of them has the
// wrong form the function's stands; decoding reports the other.
func (p *parser) mergeField(fd protoreflect.FieldDescriptor, d, f *yaml.Node) *yaml.Node {
	switch {
	case fd == nil || d.Kind != f.Kind:
		return f
	case fd.IsMap() && f.Kind == yaml.MappingNode:
		return p.mergeMapping(d, f, func(_ string, _, f *yaml.Node) *yaml.Node { return f })
	case fd.IsList() && f.Kind == yaml.SequenceNode && fd.Name() == "secrets":
		return p.mergeSecrets(d, f)
	case !fd.IsList() && !fd.IsMap() && fd.Message() != nil:
		return p.inherit(fd.Message(), d, f)
	}
	return f
}

// mergeSecrets puts the defaults first. A function's reference to a secret
// that the defaults name takes their place in the order.
func (p *parser) mergeSecrets(defaults, function *yaml.Node) *yaml.Node {
	merged := p.emptied(function)
	moved := map[*yaml.Node]bool{}
	for _, d := range defaults.Content {
		if own := p.sameSecret(function, d, moved); own != nil {
			moved[own] = true
			d = own
		}
		merged.Content = append(merged.Content, d)
	}
	for _, f := range function.Content {
		if !moved[f] {
			merged.Content = append(merged.Content, f)
		}
	}
	return merged
}

// sameSecret finds the reference in a list that names the same secret and has
// not replaced another one.
func (p *parser) sameSecret(list, ref *yaml.Node, moved map[*yaml.Node]bool) *yaml.Node {
	_, name := entry(ref, "name")
	if name == nil || p.isNull(name) {
		return nil
	}
	for _, candidate := range list.Content {
		if _, other := entry(candidate, "name"); other != nil && other.Value == name.Value && !moved[candidate] {
			return candidate
		}
	}
	return nil
}
