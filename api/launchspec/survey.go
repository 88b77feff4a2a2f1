package launchspec

import (
	"fmt"
	"iter"
	"regexp"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shape is what the .proto expects at a node: a message, a field's whole
// value, or nothing known.
type shape struct {
	message protoreflect.MessageDescriptor
	field   protoreflect.FieldDescriptor
}

// child is the shape below a key.
func (s shape) child(key string) shape {
	switch {
	case s.message != nil:
		fd := s.message.Fields().ByName(protoreflect.Name(key))
		if fd != nil && !fd.IsList() && !fd.IsMap() && fd.Message() != nil {
			return shape{message: fd.Message()}
		}
		return shape{field: fd}
	case s.isMap():
		return shape{message: s.field.MapValue().Message()}
	}
	return shape{}
}

// item is the shape of a list's items.
func (s shape) item() shape {
	if s.field != nil && s.field.IsList() {
		return shape{message: s.field.Message()}
	}
	return shape{}
}

func (s shape) isMap() bool {
	return s.field != nil && s.field.IsMap()
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// step is a key as part of a path.
func (s shape) step(key string) any {
	if s.isMap() || !identifier.MatchString(key) {
		return mapKey(key)
	}
	return key
}

// survey notes the path of every node of a file. It reports what YAML allows
// and a spec does not, such as repeated keys, anchors and tags, and takes it
// out, so that what follows sees a plain tree of limited size.
func (p *parser) survey(n *yaml.Node, at string, s shape, depth int) {
	p.paths[n] = at
	p.nodes++
	if !p.plain(n, depth) {
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
	}
	switch n.Kind {
	case yaml.MappingNode:
		p.surveyMapping(n, at, s, depth)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			p.survey(item, path{i}.after(at), s.item(), depth+1)
		}
	}
}

// plain refuses what makes a node stand for something else than it says.
func (p *parser) plain(n *yaml.Node, depth int) bool {
	switch {
	case depth > maxDepth:
		p.problem(n, "file.depth", "nests deeper than %d levels", maxDepth)
	case n.Kind == yaml.AliasNode:
		p.problem(n, "yaml.alias", "is a YAML alias, which launch specs don't have: share values through defaults")
	case n.Anchor != "":
		p.problem(n, "yaml.alias", "has a YAML anchor, which launch specs don't have: share values through defaults")
	case n.Style&yaml.TaggedStyle != 0:
		p.problem(n, "yaml.tag", "has the YAML tag %s, which launch specs don't have", n.Tag)
	default:
		return true
	}
	return false
}

func (p *parser) surveyMapping(n *yaml.Node, at string, s shape, depth int) {
	var kept []*yaml.Node
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		p.paths[key] = at
		if !p.plainKey(key, depth) {
			continue
		}
		child := path{s.step(key.Value)}.after(at)
		p.paths[key] = child
		if line, repeated := first[key.Value]; repeated {
			p.problem(key, "field.repeated", "is given twice, first on line %d", line)
			continue
		}
		first[key.Value] = key.Line
		p.survey(value, child, s.child(key.Value), depth+1)
		kept = append(kept, key, value)
	}
	n.Content = kept
}

func (p *parser) plainKey(key *yaml.Node, depth int) bool {
	switch {
	case key.Kind == yaml.MappingNode, key.Kind == yaml.SequenceNode:
		p.problem(key, "yaml.key", "has %s for a name", describe(key))
		return false
	case key.Tag == "!!merge":
		p.problem(key, "yaml.alias", "has a YAML merge key, which launch specs don't have: share values through defaults")
		return false
	}
	return p.plain(key, depth)
}

// describe names a node's kind to people.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of fields"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// pairs gives the keys and values of a mapping.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// entry finds what a mapping has under a key; both nodes are nil when it has
// nothing there, or is no mapping.
func entry(n *yaml.Node, name string) (key, value *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for k, v := range pairs(n) {
		if k.Value == name {
			return k, v
		}
	}
	return nil, nil
}

// isNull tells a field that is named but has no value: as in the protobuf's
// JSON mapping, it counts as absent.
func (p *parser) isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && !p.expanded[n]
}

// quoted shows a value in a message, unless an expansion may have put
// something there that is nobody's to read.
func (p *parser) quoted(n *yaml.Node) string {
	if p.expanded[n] {
		return "the value expanded here"
	}
	const most = 40
	if r := []rune(n.Value); len(r) > most {
		return fmt.Sprintf("%q…", string(r[:most]))
	}
	return fmt.Sprintf("%q", n.Value)
}
