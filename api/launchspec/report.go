package launchspec

import (
	"cmp"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// report adds a problem. The same one again adds only the function that has it:
// defaults are looked at once for each function.
func (p *parser) report(problem Problem, heirs ...string) {
	problem.File = p.file
	p.found[problem] = append(p.found[problem], heirs...)
}

// problem reports a mistake at a node, in the field that the node was written as.
func (p *parser) problem(n *yaml.Node, rule, format string, args ...any) {
	at := p.paths[n]
	p.broken[at] = true
	p.report(Problem{Line: n.Line, Column: n.Column, Field: at, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

// violation reports a broken rule of a merged message, unless its field has
// another problem, from which this one may follow. The function is the one
// that the message is, or empty.
func (p *parser) violation(root *yaml.Node, v violation, function string) {
	n, field := p.locate(root, v)
	if n == nil || p.broken[field] {
		return
	}
	problem := Problem{Line: n.Line, Column: n.Column, Field: field, Rule: v.rule, Message: v.message}
	if v.other != nil {
		other, field := p.locate(root, violation{path: v.other})
		problem.Message += fmt.Sprintf(" %s, line %d", field, other.Line)
	}
	if function == "" || !isInherited(field) {
		p.report(problem)
		return
	}
	p.report(problem, function)
}

func isInherited(field string) bool {
	return len(field) > len("defaults") && field[:len("defaults")] == "defaults"
}

// problems are all that were found, in the order of the file. A value in the
// defaults that is wrong for some functions only is so because of them.
func (p *parser) problems(file *File) Problems {
	var all Problems
	for problem, heirs := range p.found {
		if file != nil && len(heirs) > 0 && len(heirs) < len(file.Specs) {
			problem.Message += "; inherited by " + enumerate(heirs, "and")
		}
		all = append(all, problem)
	}
	slices.SortFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	return all
}
