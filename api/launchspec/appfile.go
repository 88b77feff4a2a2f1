package launchspec

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// appFile reads a file of several functions: clean up, expand, merge the
// defaults into each function, and only then check.
func (p *parser) appFile(root *yaml.Node) *File {
	app := &purserv1.AppFile{}
	top := shape{message: app.ProtoReflect().Descriptor()}
	p.survey(root, "", top, 0)
	_, defaults := entry(root, "defaults")
	_, functions := entry(root, "functions")
	if !p.sizeFits(root, p.nodes+count(defaults)*len(items(functions))) {
		return nil
	}
	p.expand(root, top)
	p.decode(p.without(root, "defaults", "functions"), app.ProtoReflect())
	p.misplaced(defaults, belongsToFile, fieldsOfFile)
	p.misplaced(defaults, belongsToFunction, fieldsOfFunction)

	merged := p.mergeFunctions(defaults, functions)
	for _, n := range items(merged) {
		spec := &purserv1.LaunchSpec{}
		p.decode(n, spec.ProtoReflect())
		spec.App, spec.Environment = app.App, app.Environment
		app.Functions = append(app.Functions, spec)
	}
	p.checkAppFile(p.replaced(root, "functions", merged), app)
	return &File{App: app.GetApp(), Environment: app.GetEnvironment(), Specs: app.Functions, Whole: true}
}

// mergeFunctions makes the list of functions with the defaults merged in. It
// also decodes the defaults alone, so that a value that does not fit is
// reported even where every function has its own.
func (p *parser) mergeFunctions(defaults, functions *yaml.Node) *yaml.Node {
	if functions == nil {
		return nil
	}
	if defaults != nil && !p.isNull(defaults) {
		p.decode(defaults, (&purserv1.LaunchSpec{}).ProtoReflect())
	}
	if functions.Kind != yaml.SequenceNode {
		if !p.isNull(functions) {
			p.mistyped(functions, "must be a list of functions, not %s", describe(functions))
		}
		return functions
	}
	merged := p.emptied(functions)
	for _, function := range functions.Content {
		p.misplaced(function, belongsToFile, fieldsOfFile)
		merged.Content = append(merged.Content, p.inherit(specDescriptor, defaults, function))
	}
	return merged
}

// Fields of a launch spec that have one place in an app file.
var (
	fieldsOfFile     = []string{"app", "environment"}
	fieldsOfFunction = []string{"function", "id"}
)

const (
	belongsToFile     = "belongs at the top of the file"
	belongsToFunction = "belongs to each function"
)

// misplaced reports fields that are known but have their place elsewhere.
func (p *parser) misplaced(n *yaml.Node, where string, fields []string) {
	for _, name := range fields {
		if key, _ := entry(n, name); key != nil {
			p.problem(key, "field.misplaced", "%s", where)
		}
	}
}

// checkAppFile holds the merged file against the rules.
func (p *parser) checkAppFile(root *yaml.Node, app *purserv1.AppFile) {
	for _, v := range append(violations(app), sameIDs(app.Functions)...) {
		function := ""
		if len(v.path) > 1 && v.path[0] == "functions" {
			function = functionName(app.Functions, v.path[1])
		}
		if !isFromTop(v.path) {
			p.violation(root, v, function)
		}
	}
}

// isFromTop tells a violation in what a function has from the top of the file,
// where it is reported.
func isFromTop(at path) bool {
	return len(at) == 3 && at[0] == "functions" && (at[2] == "app" || at[2] == "environment")
}

func functionName(functions []*purserv1.LaunchSpec, index any) string {
	i, ok := index.(int)
	if !ok || i >= len(functions) {
		return ""
	}
	return orElse(functions[i].GetFunction(), fmt.Sprintf("functions[%d]", i))
}

// sameIDs finds functions that differ in name and not in ID.
func sameIDs(functions []*purserv1.LaunchSpec) []violation {
	var found []violation
	first := map[string]*purserv1.LaunchSpec{}
	for i, f := range functions {
		other, taken := first[ID(f)]
		if !taken {
			first[ID(f)] = f
			continue
		}
		if other.GetFunction() == f.GetFunction() {
			continue // reported as such
		}
		field := "function"
		if f.Id != nil {
			field = "id"
		}
		found = append(found, violation{
			path:    path{"functions", i, field},
			rule:    "functions.id",
			message: "gives the ID of function " + other.GetFunction(),
		})
	}
	return found
}

// without is a mapping less some of its entries.
func (p *parser) without(n *yaml.Node, names ...string) *yaml.Node {
	rest := p.emptied(n)
	for key, value := range pairs(n) {
		if !slices.Contains(names, key.Value) {
			rest.Content = append(rest.Content, key, value)
		}
	}
	return rest
}

// replaced is a mapping with another value under one of its names.
func (p *parser) replaced(n *yaml.Node, name string, by *yaml.Node) *yaml.Node {
	changed := p.emptied(n)
	for key, value := range pairs(n) {
		if key.Value == name {
			value = by
		}
		changed.Content = append(changed.Content, key, value)
	}
	return changed
}

// items are those of a list, none when it is something else.
func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// count tells how many nodes there are in a tree.
func count(n *yaml.Node) int {
	if n == nil {
		return 0
	}
	total := 1
	for _, child := range n.Content {
		total += count(child)
	}
	return total
}
