package launchspec

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Lists whose items reach the container's process as they stand; a shell there
// may expand them.
var argv = []string{"command", "args"}

// expandSpec expands the values of a launch spec in place, but not its argv.
func (p *parser) expandSpec(n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		p.expand(n)
		return
	}
	for key, value := range pairs(n) {
		if !slices.Contains(argv, key.Value) {
			p.expand(value)
		}
	}
}

// expand expands every scalar value below a node in place, never a key.
func (p *parser) expand(n *yaml.Node) {
	switch {
	case n == nil:
	case n.Kind == yaml.MappingNode:
		for _, value := range pairs(n) {
			p.expand(value)
		}
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			p.expand(item)
		}
	case strings.Contains(n.Value, "${"):
		p.expandScalar(n)
	}
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
