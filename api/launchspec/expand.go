package launchspec

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Lists whose items reach the container's process as they stand; a shell there
// may expand them.
var argv = map[protoreflect.FullName][]string{
	specDescriptor.FullName(): {"command", "args"},
	"purser.v1.ExecProbe":     {"command"},
	"purser.v1.Hooks":         {"pre_stop"},
}

// expand expands in place the scalar values below a node that the program
// reads: no key, no argv, and nothing under a field that it does not know.
func (p *parser) expand(n *yaml.Node, s shape) {
	switch n.Kind {
	case yaml.MappingNode:
		for key, value := range pairs(n) {
			if s.expands(key.Value) {
				p.expand(value, s.child(key.Value))
			}
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			p.expand(item, s.item())
		}
	default:
		if strings.Contains(n.Value, "${") {
			p.expandScalar(n)
		}
	}
}

// expands tells whether the value under a key is read, and expanded before.
func (s shape) expands(key string) bool {
	switch {
	case s.message == nil:
		return s.isMap()
	case slices.Contains(argv[s.message.FullName()], key):
		return false
	}
	return fieldIn(s.message, key)
}

// reference finds what an expansion may be: the escape, a closed ${…} or one
// that is never closed.
var (
	braced   = regexp.MustCompile(`\$\$\{|\$\{[^}]*\}?`)
	variable = regexp.MustCompile(`(?s)^\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)(.*))?\}$`)
)

func (p *parser) expandScalar(n *yaml.Node) {
	p.expanded[n] = true
	n.Value = braced.ReplaceAllStringFunc(n.Value, func(ref string) string {
		if ref == "$${" {
			return "${"
		}
		return p.resolve(n, ref)
	})
}

// resolve gives the value of one ${…}. After a mistake the node counts as
// broken, so that nothing follows from a value that is not there.
func (p *parser) resolve(n *yaml.Node, ref string) string {
	parts := variable.FindStringSubmatch(ref)
	if parts == nil || strings.Contains(parts[3], "${") {
		p.problem(n, "expand.form", "has %s: want ${NAME}, ${NAME:-default} or ${NAME:?message}, not nested; write $${ for a literal ${", cut(ref))
		return ""
	}
	name, operator, operand := parts[1], parts[2], parts[3]
	value, set := p.lookup(name)
	switch {
	case operator == "" && !set:
		p.problem(n, "expand.unset", "needs the variable %s, which is not set; ${%s:-default} gives it a default", name, name)
	case operator == ":-" && value == "":
		return operand
	case operator == ":?" && value == "":
		p.problem(n, "expand.required", "needs the variable %s: %s", name, orElse(operand, "it is not set or empty"))
	}
	return value
}

func orElse(s, otherwise string) string {
	if strings.TrimSpace(s) == "" {
		return otherwise
	}
	return s
}

// cut keeps a message short and on one line when a brace is never closed.
func cut(ref string) string {
	const most = 30
	first, _, more := strings.Cut(ref, "\n")
	if r := []rune(first); len(r) > most {
		first, more = string(r[:most]), true
	}
	if more {
		first += "…"
	}
	return first
}
