package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
)

// flow follows plain values through assignments, calls and returns. It knows of
// each variable, parameter, field and function of the module whether it ever is or
// returns one, whoever uses it: that errs on the side of a leak. It does not look
// into interfaces and values of functions, so giving a plain value to one is a leak.
type flow struct {
	*sources
	path   map[string]string // where plain values may be
	handed map[string]string // calls that they may be given to

	plain   map[types.Object]bool
	known   map[types.Object]bool // those that are meant to be plain, or only seem so
	used    map[string]bool       // of path and handed
	leaks   map[token.Position]string
	file    string       // that is being looked at
	place   string       // on the path that it is; empty when it is off
	within  types.Object // the function that is being looked at
	changed bool
}

func (f *flow) begin(plaintext, cleared []string) error {
	f.plain, f.known, f.used = map[types.Object]bool{}, map[types.Object]bool{}, map[string]bool{}
	f.leaks = map[token.Position]string{}
	for _, name := range append(slices.Clone(plaintext), cleared...) {
		object, err := f.find(name)
		if err != nil {
			return err
		}
		f.known[object] = true
		f.plain[object] = slices.Contains(plaintext, name)
	}
	return nil
}

// run returns the leaks in files, sorted by position.
func (f *flow) run(files []*ast.File) []string {
	for f.changed = true; f.changed; {
		f.changed = false
		for _, file := range files {
			f.file = f.fset.Position(file.Pos()).Filename
			f.place = f.placeOf(f.file)
			for _, d := range file.Decls {
				f.declaration(d)
			}
		}
	}
	var all []string
	for _, at := range slices.SortedFunc(maps.Keys(f.leaks), func(a, b token.Position) int {
		return cmp.Or(cmp.Compare(a.Filename, b.Filename), cmp.Compare(a.Offset, b.Offset))
	}) {
		all = append(all, fmt.Sprintf("%s:%d: a secret's value is %s", at.Filename, at.Line, f.leaks[at]))
	}
	return all
}

func (f *flow) declaration(d ast.Decl) {
	function, ok := d.(*ast.FuncDecl)
	if !ok {
		f.walk(d, nil)
		return
	}
	if function.Body == nil {
		return
	}
	object := f.info.Defs[function.Name].(*types.Func)
	f.within = object
	returned := func(at ast.Node) {
		f.set(object)
		if object.Exported() && !f.known[object] {
			f.leak(at, "returned by %s, which is exported", object.Name())
		}
	}
	f.walk(function.Body, returned)
	for result := range object.Signature().Results().Variables() {
		if f.plain[result] { // a bare return
			returned(function)
		}
	}
}

// walk looks at all that is in a node; returns is called for plain results.
func (f *flow) walk(n ast.Node, returns func(at ast.Node)) {
	ast.Inspect(n, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok && f.isPlain(e) {
			if f.place == "" {
				f.leak(e, "off the injection path")
				return false
			}
			f.used[f.place] = true
		}
		switch n := n.(type) {
		case *ast.FuncLit:
			f.walk(n.Body, nil)
			return false
		case *ast.ReturnStmt:
			if returns != nil && slices.ContainsFunc(n.Results, f.isPlain) {
				returns(n)
			}
		case *ast.AssignStmt:
			f.assign(n.Lhs, n.Rhs)
		case *ast.ValueSpec:
			names := make([]ast.Expr, len(n.Names))
			for i, name := range n.Names {
				names[i] = name
			}
			f.assign(names, n.Values)
		case *ast.RangeStmt:
			if n.Value != nil && f.isPlain(n.X) {
				f.mark(n.Value)
			}
		case *ast.CompositeLit:
			f.fields(n)
		case *ast.SendStmt:
			if f.isPlain(n.Value) {
				f.leak(n, "sent on a channel")
			}
		case *ast.CallExpr:
			f.call(n)
		}
		return true
	})
}

func (f *flow) assign(to, from []ast.Expr) {
	for i, e := range from {
		if !f.isPlain(e) {
			continue
		}
		if len(from) == len(to) {
			f.mark(to[i])
			continue
		}
		for _, e := range to {
			f.mark(e)
		}
	}
}

// mark notes that a plain value is put into what an expression stands for.
func (f *flow) mark(to ast.Expr) {
	if f.info.TypeOf(to) == nil || !f.carries(f.info.TypeOf(to)) {
		return
	}
	switch e := ast.Unparen(to).(type) {
	case *ast.Ident:
		f.keep(e, f.object(e))
	case *ast.SelectorExpr:
		f.keep(e, f.object(e.Sel))
	case *ast.IndexExpr:
		f.mark(e.X)
	case *ast.SliceExpr:
		f.mark(e.X)
	case *ast.StarExpr:
		f.mark(e.X)
	}
}

// fields marks the fields that a struct literal sets.
func (f *flow) fields(c *ast.CompositeLit) {
	t, ok := f.info.TypeOf(c).Underlying().(*types.Struct)
	if !ok {
		return
	}
	for i, e := range c.Elts {
		if !f.isPlain(element(e)) {
			continue
		}
		field := t.Field(i)
		if pair, named := e.(*ast.KeyValueExpr); named {
			field = f.object(pair.Key.(*ast.Ident)).(*types.Var)
		}
		f.keep(e, field.Origin())
	}
}

// element is the value of an element of a literal.
func element(e ast.Expr) ast.Expr {
	if pair, ok := e.(*ast.KeyValueExpr); ok {
		return pair.Value
	}
	return e
}

// keep marks a variable or field, which others must not be able to see.
func (f *flow) keep(at ast.Node, object types.Object) {
	v, ok := object.(*types.Var)
	if !ok || f.known[v] {
		return
	}
	if v.IsField() && v.Exported() {
		f.leak(at, "kept in %s, which is exported", v.Name())
	} else if !v.IsField() && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
		f.leak(at, "kept in %s, for ever", v.Name())
	}
	f.set(v)
}

// call marks the parameters that are given a plain value.
func (f *flow) call(c *ast.CallExpr) {
	if f.info.Types[c.Fun].IsType() {
		return
	}
	given := slices.ContainsFunc(c.Args, f.isPlain)
	switch callee := f.callee(c).(type) {
	case *types.Builtin:
		switch name := callee.Name(); {
		case !given:
		case name == "copy":
			f.mark(c.Args[0])
		case name == "panic" || name == "print" || name == "println":
			f.leak(c, "given to %s", name)
		}
	case *types.Func:
		if f.plain[callee] {
			f.show(c)
		}
		switch {
		case f.ours(callee):
			f.pass(c, callee)
		case !slices.ContainsFunc(inputs(c), f.isPlain) || f.takesOver(callee):
		case !isPure(callee):
			f.leak(c, "given to %s", callee.FullName())
		case given && callee.Signature().Recv() != nil: // such as a buffer that reads
			f.mark(ast.Unparen(c.Fun).(*ast.SelectorExpr).X)
		}
	default:
		if given && !f.known[f.within] {
			f.leak(c, "given to a function that nobody knows")
		}
	}
}

// show marks the parameters of a function to which a plain value is shown.
func (f *flow) show(c *ast.CallExpr) {
	for _, arg := range c.Args {
		if to, ok := f.info.TypeOf(arg).(*types.Signature); ok {
			for p := range to.Params().Variables() {
				f.set(p)
			}
		}
	}
}

// pass marks the parameters of one of the module's functions. What its method is
// called on shows in the fields that the method uses.
func (f *flow) pass(c *ast.CallExpr, to *types.Func) {
	parameters := to.Signature().Params()
	for i, arg := range c.Args {
		if !f.isPlain(arg) || f.place == "" {
			continue
		}
		if isInterface(to) || f.placeOf(f.fset.Position(to.Pos()).Filename) == "" {
			f.leak(c, "given to %s", to.FullName())
		} else if p := parameters.At(min(i, parameters.Len()-1)); f.carries(p.Type()) {
			f.set(p)
		}
	}
}

// ours says whether a function is one of this module's.
func (f *flow) ours(function *types.Func) bool {
	return function.Pkg() != nil && f.packages[function.Pkg().Path()] != nil
}

// isPure says whether a function keeps and shows nothing of what it is given. Where
// a method writes to is not followed.
func isPure(function *types.Func) bool {
	if function.Pkg() == nil || isInterface(function) || strings.HasPrefix(function.Name(), "Write") {
		return false
	}
	return slices.Contains(pure, function.Pkg().Path()) || slices.Contains(pure, function.FullName())
}

// takesOver says whether a function may be given plain values in this file.
func (f *flow) takesOver(function *types.Func) bool {
	call := f.file + ": " + function.FullName()
	if _, ok := f.handed[call]; ok {
		f.used[call] = true
	}
	return f.used[call]
}

// inputs are what a call works on: its arguments, and what its method is called on.
func inputs(c *ast.CallExpr) []ast.Expr {
	if s, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr); ok {
		return append([]ast.Expr{s.X}, c.Args...)
	}
	return c.Args
}

// isPlain says whether an expression may be, or hold, a plain value.
func (f *flow) isPlain(e ast.Expr) bool {
	t := f.info.TypeOf(e)
	if t == nil || !f.carries(t) || f.info.Types[e].IsType() {
		return false
	}
	if f.holds(t) {
		return true
	}
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		return f.plain[f.object(e)]
	case *ast.SelectorExpr:
		return f.plain[f.object(e.Sel)]
	case *ast.CallExpr:
		return f.returnsPlain(e)
	case *ast.BinaryExpr:
		return f.isPlain(e.X) || f.isPlain(e.Y)
	case *ast.IndexExpr:
		return f.isPlain(e.X)
	case *ast.SliceExpr:
		return f.isPlain(e.X)
	case *ast.StarExpr:
		return f.isPlain(e.X)
	case *ast.UnaryExpr:
		return f.isPlain(e.X)
	case *ast.TypeAssertExpr:
		return f.isPlain(e.X)
	case *ast.CompositeLit:
		_, fields := t.Underlying().(*types.Struct)
		return !fields && slices.ContainsFunc(e.Elts, func(e ast.Expr) bool { return f.isPlain(element(e)) })
	case *ast.FuncLit:
		found := false
		f.walk(e.Body, func(ast.Node) { found = true })
		return found
	}
	return false
}

func (f *flow) returnsPlain(c *ast.CallExpr) bool {
	if f.info.Types[c.Fun].IsType() {
		return f.isPlain(c.Args[0])
	}
	function, ok := f.callee(c).(*types.Func)
	switch {
	case !ok:
		named := namedType(f.info.TypeOf(c.Fun))
		return named != nil && f.plain[named.Obj()] || f.isPlain(c.Fun) || slices.ContainsFunc(c.Args, f.isPlain)
	case f.plain[function] || f.stands(function):
		return true
	case f.known[function] || f.ours(function):
		return false
	case function.FullName() == "maps.Keys":
		return false
	default:
		return slices.ContainsFunc(inputs(c), f.isPlain) && !f.takesOver(function)
	}
}

// stands says whether a method of an interface stands for a method that returns
// plain values.
func (f *flow) stands(m *types.Func) bool {
	if !isInterface(m) {
		return false
	}
	for object := range f.known {
		o, ok := object.(*types.Func)
		if ok && f.plain[o] && o.Name() == m.Name() && types.Identical(o.Type(), m.Type()) {
			return true
		}
	}
	return false
}

func isInterface(m *types.Func) bool {
	return m.Signature().Recv() != nil && types.IsInterface(m.Signature().Recv().Type())
}

// holds says whether a value of a type has a plain value in it: in a field, in a
// struct that is a field, or in an element.
func (f *flow) holds(t types.Type) bool {
	if !f.carries(t) {
		return false
	}
	switch t := t.Underlying().(type) {
	case *types.Pointer:
		return f.holds(t.Elem())
	case *types.Slice:
		return f.holds(t.Elem())
	case *types.Map:
		return f.holds(t.Elem())
	case *types.Struct:
		for field := range t.Fields() {
			_, nested := field.Type().Underlying().(*types.Struct)
			if f.plain[field.Origin()] || nested && f.holds(field.Type()) {
				return true
			}
		}
	}
	return false
}

// carries says whether a plain value can be in something of a type: not in a
// number, an error, a struct without fields, a type that redacts itself, or a function
// of a type that is known to return one.
func (f *flow) carries(t types.Type) bool {
	if named := namedType(t); named != nil && f.known[named.Obj()] {
		return false
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Info()&types.IsString != 0 || u.Kind() == types.Uint8 || u.Kind() == types.Int32
	case *types.Struct:
		return u.NumFields() > 0 && types.Unalias(u.Field(0).Type()).String() != module+"/inject/internal/opaque.Mark"
	case *types.Interface:
		return !types.Identical(t, types.Universe.Lookup("error").Type())
	case *types.Pointer:
		return f.carries(u.Elem())
	case *types.Slice:
		return f.carries(u.Elem())
	case *types.Map:
		return f.carries(u.Elem())
	case *types.Tuple:
		return slices.ContainsFunc(slices.Collect(u.Variables()), func(v *types.Var) bool { return f.carries(v.Type()) })
	}
	return true
}

func namedType(t types.Type) *types.Named {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	named, _ := types.Unalias(t).(*types.Named)
	return named
}

// callee is the function, method or built-in that is called; another object for a
// call of a variable.
func (f *flow) callee(c *ast.CallExpr) types.Object {
	switch e := ast.Unparen(c.Fun).(type) {
	case *ast.Ident:
		return f.object(e)
	case *ast.SelectorExpr:
		return f.object(e.Sel)
	case *ast.IndexExpr: // an instance of a generic function
		return f.callee(&ast.CallExpr{Fun: e.X})
	}
	return nil
}

// object is what a name stands for; of a generic one, the original.
func (f *flow) object(name *ast.Ident) types.Object {
	switch o := f.info.ObjectOf(name).(type) {
	case *types.Var:
		return o.Origin()
	case *types.Func:
		return o.Origin()
	default:
		return o
	}
}

// set marks an object. Off the injection path the first leak is enough.
func (f *flow) set(o types.Object) {
	if !f.plain[o] && !f.known[o] && f.place != "" {
		f.plain[o], f.changed = true, true
	}
}

// placeOf is the place on the injection path that a file is at, or empty.
func (f *flow) placeOf(name string) string {
	for place := range f.path {
		if within(name, place) {
			return place
		}
	}
	return ""
}

func (f *flow) leak(at ast.Node, format string, args ...any) {
	f.leaks[f.fset.Position(at.Pos())] = fmt.Sprintf(format, args...)
}
