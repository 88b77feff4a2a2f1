package launchspec

import (
	"go.yaml.in/yaml/v3"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Parse reads an app file, or the file of a single spec, in YAML or JSON. The
// name of the file appears in problems; one that ends in .json is held to JSON.
// lookup gives the values of ${VARIABLES}, as [os.LookupEnv] does.
//
// What is wrong comes back as [Problems], all of it, in the order of the file.
func Parse(file string, data []byte, lookup func(name string) (string, bool)) (*File, error) {
	p := &parser{
		file:     file,
		lookup:   lookup,
		paths:    map[*yaml.Node]string{},
		expanded: map[*yaml.Node]bool{},
		broken:   map[string]bool{},
		found:    map[Problem][]string{},
	}
	parsed := p.parse(data)
	if err := p.problems(parsed).orNil(); err != nil {
		return nil, err
	}
	return parsed, nil
}

// parser reads one file.
type parser struct {
	file   string
	lookup func(string) (string, bool)

	// paths says under which path each node was written.
	paths map[*yaml.Node]string
	// nodes counts the values surveyed.
	nodes int
	// expanded marks values that hold something not written in the file.
	expanded map[*yaml.Node]bool
	// broken marks paths with a problem already: a value that could not be
	// read is not reported as missing, too.
	broken map[string]bool
	// found holds the problems, and for those that functions have from the
	// defaults, the functions' names.
	found map[Problem][]string
}

func (p *parser) parse(data []byte) *File {
	root := p.read(data)
	if root == nil {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		p.problem(root, "field.type", "must be a launch spec or an app file, not %s", describe(root))
		return nil
	}
	functions, _ := entry(root, "functions")
	defaults, _ := entry(root, "defaults")
	if functions != nil || defaults != nil {
		return p.appFile(root)
	}
	return p.singleSpec(root)
}

func (p *parser) singleSpec(root *yaml.Node) *File {
	top := shape{message: specDescriptor}
	p.survey(root, "", top, 0)
	if !p.sizeFits(root, p.nodes) {
		return nil
	}
	p.expand(root, top)
	spec := &purserv1.LaunchSpec{}
	p.decode(root, spec.ProtoReflect())
	for _, v := range violations(spec) {
		p.violation(root, v, "")
	}
	return &File{App: spec.GetApp(), Environment: spec.GetEnvironment(), Specs: []*purserv1.LaunchSpec{spec}}
}

func (p *parser) sizeFits(root *yaml.Node, nodes int) bool {
	if nodes > maxNodes {
		p.problem(root, "file.size", "holds more than %d values, the defaults counted for each function", maxNodes)
	}
	return nodes <= maxNodes
}

var (
	specDescriptor = (*purserv1.LaunchSpec)(nil).ProtoReflect().Descriptor()
	appFileName    = (*purserv1.AppFile)(nil).ProtoReflect().Descriptor().FullName()
)
