package main

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// sources are the module's packages with their types.
type sources struct {
	fset     *token.FileSet
	info     *types.Info
	files    []*ast.File               // those that people wrote
	packages map[string]*types.Package // this module's, by path
	others   types.Importer
}

// loadModule checks the packages in the order of their imports, so that an object
// is the same wherever it is used. Of other modules it takes what the compiler
// exports.
func loadModule() (*sources, error) {
	const format = `{{.ImportPath}}|{{.Export}}|{{with .Module}}{{.Path}}{{end}}|{{join .GoFiles ","}}`
	list := exec.Command("go", "list", "-export", "-deps", "-f", format, "./...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	exports := map[string]string{}
	m := &sources{fset: token.NewFileSet(), packages: map[string]*types.Package{}, info: &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{},
		Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
	}}
	m.others = importer.ForCompiler(m.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for line := range strings.Lines(string(out)) {
		field := strings.Split(strings.TrimSpace(line), "|")
		exports[field[0]] = field[1]
		if field[2] != module {
			continue
		}
		if err := m.check(field[0], strings.FieldsFunc(field[3], func(r rune) bool { return r == ',' })); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// check adds a package. Its files are named as seen from the module's directory.
func (m *sources) check(path string, names []string) error {
	var files []*ast.File
	for _, name := range names {
		dir := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
		file, err := parser.ParseFile(m.fset, filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	pkg, err := (&types.Config{Importer: m}).Check(path, m.fset, files, m.info)
	m.packages[path] = pkg
	m.files = append(m.files, slices.DeleteFunc(files, ast.IsGenerated)...)
	return err
}

// parse reads a package of one file that is not part of the module.
func (m *sources) parse(name string) (*ast.File, error) {
	file, err := parser.ParseFile(m.fset, name, nil, parser.SkipObjectResolution)
	if err == nil {
		m.packages[name], err = (&types.Config{Importer: m}).Check(name, m.fset, []*ast.File{file}, m.info)
	}
	return file, err
}

// Import implements types.Importer.
func (m *sources) Import(path string) (*types.Package, error) {
	if pkg := m.packages[path]; pkg != nil {
		return pkg, nil
	}
	return m.others.Import(path)
}

// find finds a function, type, field or method, such as "inject.Value.Reveal".
func (m *sources) find(name string) (types.Object, error) {
	dir, last := filepath.Split(name)
	words := strings.Split(last, ".")
	path := dir + words[0]
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		path = module + "/" + path
	}
	pkg, err := m.Import(path)
	if err != nil {
		return nil, err
	}
	object := pkg.Scope().Lookup(words[1])
	if object != nil && len(words) > 2 {
		object, _, _ = types.LookupFieldOrMethod(object.Type(), true, pkg, words[2])
	}
	if object == nil {
		return nil, fmt.Errorf("there is no %s", name)
	}
	return object, nil
}
