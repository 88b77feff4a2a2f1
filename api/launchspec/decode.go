package launchspec

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"buf.build/go/protovalidate"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// decode fills a message from a mapping and reports what does not fit. A field
// that does not fit stays absent.
func (p *parser) decode(n *yaml.Node, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	if n.Kind != yaml.MappingNode {
		p.mistyped(n, "must be a group of fields%s, not %s", knownFields(fields, " (", ")"), describe(n))
		return
	}
	for key, value := range pairs(n) {
		fd := fields.ByName(protoreflect.Name(key.Value))
		switch {
		case fd == nil:
			p.unknown(key, m.Descriptor())
		case p.isNull(value):
		default:
			p.decodeField(value, m, fd)
		}
	}
}

func (p *parser) decodeField(n *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	switch {
	case fd.IsList():
		p.decodeList(n, m.Mutable(fd).List(), fd)
	case fd.IsMap():
		p.decodeMap(n, m.Mutable(fd).Map(), fd)
	case fd.Message() != nil:
		p.decode(n, m.Mutable(fd).Message())
	default:
		if v, ok := p.decodeScalar(n, fd); ok {
			m.Set(fd, v)
		}
	}
}

func (p *parser) decodeList(n *yaml.Node, list protoreflect.List, fd protoreflect.FieldDescriptor) {
	if n.Kind != yaml.SequenceNode {
		p.mistyped(n, "must be a list, not %s", describe(n))
		return
	}
	for _, item := range n.Content {
		if fd.Message() != nil {
			p.decode(item, list.AppendMutable().Message())
			continue
		}
		// A bad item is kept as an empty one, so that the indices after
		// it stay those of the file.
		v, ok := p.decodeScalar(item, fd)
		if !ok {
			v = list.NewElement()
		}
		list.Append(v)
	}
}

func (p *parser) decodeMap(n *yaml.Node, entries protoreflect.Map, fd protoreflect.FieldDescriptor) {
	if n.Kind != yaml.MappingNode {
		p.mistyped(n, "must be a group of names and values, not %s", describe(n))
		return
	}
	for key, value := range pairs(n) {
		v, ok := p.decodeScalar(value, fd.MapValue())
		if !ok {
			v = entries.NewValue()
		}
		entries.Set(protoreflect.ValueOfString(key.Value).MapKey(), v)
	}
}

// decodeScalar reads a value as the kind of its field wants. An unquoted
// number or word in a string field counts as its text: PORT: 8080.
func (p *parser) decodeScalar(n *yaml.Node, fd protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	if n.Kind != yaml.ScalarNode {
		p.mistyped(n, "must be a single value, not %s", describe(n))
		return protoreflect.Value{}, false
	}
	if p.isNull(n) {
		p.mistyped(n, `has no value; write "" for an empty one`)
		return protoreflect.Value{}, false
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return p.decodeBool(n)
	case protoreflect.Uint32Kind:
		return p.decodeUint32(n, largest(fd))
	case protoreflect.DoubleKind:
		return p.decodeDouble(n)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(n.Value), true
	}
	p.mistyped(n, "is a %s, which this program can't read from a file", fd.Kind())
	return protoreflect.Value{}, false
}

func (p *parser) decodeBool(n *yaml.Node) (protoreflect.Value, bool) {
	if p.isBare(n) && (n.Value == "true" || n.Value == "false") {
		return protoreflect.ValueOfBool(n.Value == "true"), true
	}
	p.mistyped(n, "must be true or false, without quotes, not %s", p.quoted(n))
	return protoreflect.Value{}, false
}

var (
	wholeNumber = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
	number      = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$|^[+-]?\.[0-9]+$`)
)

// largest is the greatest number that a field may hold.
func largest(fd protoreflect.FieldDescriptor) uint32 {
	rules, err := protovalidate.ResolveFieldRules(fd)
	if err == nil && rules.GetUint32().HasLte() {
		return rules.GetUint32().GetLte()
	}
	return math.MaxUint32
}

func (p *parser) decodeUint32(n *yaml.Node, most uint32) (protoreflect.Value, bool) {
	if p.isBare(n) && wholeNumber.MatchString(n.Value) {
		if v, err := strconv.ParseUint(n.Value, 10, 32); err == nil {
			return protoreflect.ValueOfUint32(uint32(v)), true
		}
	}
	p.mistyped(n, "must be a whole number from 0 to %d, without quotes, not %s", most, p.quoted(n))
	return protoreflect.Value{}, false
}

func (p *parser) decodeDouble(n *yaml.Node) (protoreflect.Value, bool) {
	if p.isBare(n) && number.MatchString(n.Value) {
		if v, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return protoreflect.ValueOfFloat64(v), true
		}
	}
	p.mistyped(n, "must be a number such as 0.5, without quotes, not %s", p.quoted(n))
	return protoreflect.Value{}, false
}

// mistyped reports a value that does not fit, once: defaults are decoded for
// every function, and what was already found to be wrong is not judged again.
func (p *parser) mistyped(n *yaml.Node, format string, args ...any) {
	if !p.broken[p.paths[n]] {
		p.problem(n, "field.type", format, args...)
	}
}

// isBare tells a value that may be something else than text: one without
// quotes, or one that an expansion gave, which often needs them.
func (p *parser) isBare(n *yaml.Node) bool {
	return n.Style == 0 || p.expanded[n]
}

// unknown reports a field that the message lacks. When it looks like another
// one, that one is not reported as missing as well.
func (p *parser) unknown(key *yaml.Node, md protoreflect.MessageDescriptor) {
	if md.FullName() == appFileName && fieldIn(specDescriptor, key.Value) {
		p.problem(key, "field.unknown", "belongs to a function, or in defaults for all of them")
		return
	}
	near, ok := nearest(key.Value, md.Fields())
	if !ok {
		p.problem(key, "field.unknown", "is no field here%s", knownFields(md.Fields(), "; there are ", ""))
		return
	}
	if place := p.placeOf(near, key, md); place != "" {
		p.problem(key, "field.unknown", "is no field here; %s %s", near, place)
		return
	}
	p.problem(key, "field.unknown", "is no field here; did you mean %s?", near)
	p.broken[sibling(p.paths[key], near)] = true
}

// placeOf says where a field of a function belongs that may not stand where the
// key does; it is empty when it may.
func (p *parser) placeOf(name string, key *yaml.Node, md protoreflect.MessageDescriptor) string {
	at := p.paths[key]
	inDefaults := strings.HasPrefix(at, "defaults.")
	switch {
	case md != specDescriptor || !inDefaults && !strings.HasPrefix(at, "functions["):
		return ""
	case slices.Contains(fieldsOfFile, name):
		return belongsToFile
	case inDefaults && slices.Contains(fieldsOfFunction, name):
		return belongsToFunction
	}
	return ""
}

func fieldIn(md protoreflect.MessageDescriptor, name string) bool {
	return md.Fields().ByName(protoreflect.Name(name)) != nil
}

// knownFields lists the fields of a small message. A launch spec has too many
// to be of help.
func knownFields(fields protoreflect.FieldDescriptors, before, after string) string {
	const most = 8
	if fields.Len() > most {
		return ""
	}
	var names []string
	for i := range fields.Len() {
		names = append(names, string(fields.Get(i).Name()))
	}
	slices.Sort(names)
	return before + enumerate(names, "and") + after
}

// sibling is the path of a field beside another one.
func sibling(at, name string) string {
	for i := len(at) - 1; i >= 0; i-- {
		if at[i] == '.' {
			return at[:i+1] + name
		}
		if at[i] == ']' {
			return fmt.Sprint(at[:i+1], ".", name)
		}
	}
	return name
}
