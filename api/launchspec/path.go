package launchspec

import (
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// path leads from a message to one of its fields. A step is the name of a
// field (string), the index of a list's item (int) or the key of a map's entry
// (mapKey).
type path []any

type mapKey string

// String gives the path as people write it: mounts[0].target, env["HOME"].
func (p path) String() string {
	return p.after("")
}

// after gives the path behind an already written one.
func (p path) after(prefix string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, step := range p {
		switch s := step.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", s)
		case mapKey:
			fmt.Fprintf(&b, "[%q]", string(s))
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			fmt.Fprint(&b, s)
		}
	}
	return b.String()
}

// toMap is the path to the first map that it leads through; empty when there is none.
func (p path) toMap() string {
	for n, step := range p {
		if _, is := step.(mapKey); is {
			return p[:n].String()
		}
	}
	return ""
}

// join makes a path of its own, for two paths may share a prefix's array.
func (p path) join(steps ...any) path {
	joined := make(path, 0, len(p)+len(steps))
	return append(append(joined, p...), steps...)
}

// violationPath translates protovalidate's form.
func violationPath(fp *validate.FieldPath) path {
	var p path
	for _, e := range fp.GetElements() {
		p = append(p, e.GetFieldName())
		switch e.WhichSubscript() {
		case validate.FieldPathElement_Index_case:
			p = append(p, int(e.GetIndex()))
		case validate.FieldPathElement_StringKey_case:
			p = append(p, mapKey(e.GetStringKey()))
		}
	}
	return p
}

// at walks a path from a message; the result is invalid when it leads nowhere.
func at(m protoreflect.Message, p path) protoreflect.Value {
	v := protoreflect.ValueOfMessage(m)
	for _, step := range p {
		switch s := step.(type) {
		case string:
			v = fieldOf(v, s)
		case int:
			v = itemOf(v, s)
		case mapKey:
			return protoreflect.Value{}
		}
		if !v.IsValid() {
			return v
		}
	}
	return v
}

func fieldOf(v protoreflect.Value, name string) protoreflect.Value {
	m, ok := v.Interface().(protoreflect.Message)
	if !ok {
		return protoreflect.Value{}
	}
	fd := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	if fd == nil {
		return protoreflect.Value{}
	}
	return m.Get(fd)
}

func itemOf(v protoreflect.Value, i int) protoreflect.Value {
	list, ok := v.Interface().(protoreflect.List)
	if !ok || i >= list.Len() {
		return protoreflect.Value{}
	}
	return list.Get(i)
}
