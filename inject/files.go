package inject

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	gopath "path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Directory is a directory of a container that holds files of secrets, and nothing
// else: it is mounted whole, so that what is in it can be replaced under a running
// container. [Directory.Write] fills it.
type Directory struct {
	// Target is its path in the container.
	Target string
	// Private says that the image must have nothing there: the directory is the
	// parent of a file that the spec names, and hides what it is mounted over.
	Private bool
	// Files are sorted by name, and every name appears once.
	Files []File
	// Within are the names of its subdirectories that others are mounted on.
	Within []string
}

// File is one file of a [Directory].
type File struct {
	Name string
	// Secret that is in it; Key of the secret, or empty when it has all of them.
	Secret, Key string
	Content     Value
	Mode        fs.FileMode
	// UID and GID are the owner; the container's user when nil.
	UID, GID *uint32
}

// directories lays out the files of secrets. What cannot be in a file, and files
// that would be in each other's way, are problems.
func directories(files []fileOf) ([]Directory, []Undeliverable) {
	byTarget := map[string]*Directory{}
	var problems []Undeliverable
	for _, f := range files {
		if f.problem != "" {
			problems = append(problems, f.undeliverable(f.problem))
			continue
		}
		d := byTarget[f.target]
		if d == nil {
			d = &Directory{Target: f.target}
			byTarget[f.target] = d
		}
		d.Private = d.Private || f.Key == ""
		if i := slices.IndexFunc(d.Files, func(other File) bool { return other.Name == f.Name }); i >= 0 {
			problems = append(problems, f.undeliverable(fmt.Sprintf("secret %s has a file of that name", d.Files[i].Secret)))
			continue
		}
		d.Files = append(d.Files, f.File)
	}
	all := make([]Directory, 0, len(byTarget))
	for _, target := range sortedByDepth(byTarget) {
		d := byTarget[target]
		slices.SortFunc(d.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
		all = append(all, *d)
	}
	return all, append(problems, nest(all)...)
}

// sortedByDepth puts a directory before those in it.
func sortedByDepth(byTarget map[string]*Directory) []string {
	targets := make([]string, 0, len(byTarget))
	for target := range byTarget {
		targets = append(targets, target)
	}
	slices.SortFunc(targets, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")), strings.Compare(a, b))
	})
	return targets
}

// nest notes where a directory is mounted in another one: what is mounted on must
// be there, and nobody can make it later.
func nest(all []Directory) (problems []Undeliverable) {
	for i := range all {
		inner := &all[i]
		for j := i - 1; j >= 0; j-- {
			rest, ok := strings.CutPrefix(inner.Target, all[j].Target+"/")
			if !ok {
				continue
			}
			first, _, _ := strings.Cut(rest, "/")
			for _, f := range all[j].Files {
				if f.Name == first {
					problems = append(problems, Undeliverable{Secret: f.Secret, Key: f.Key, File: gopath.Join(all[j].Target, f.Name),
						Reason: "the files of secret " + inner.Files[0].Secret + " are to be in " + inner.Target})
				}
			}
			all[j].Within = append(all[j].Within, rest)
			break
		}
	}
	return problems
}

// fileOf is a file and where it goes.
type fileOf struct {
	File
	target  string
	problem string // what is wrong with the content; nothing when empty
}

func (f fileOf) undeliverable(reason string) Undeliverable {
	return Undeliverable{Secret: f.Secret, Key: f.Key, File: gopath.Join(f.target, f.Name), Reason: reason}
}

// filesOf makes the files of a secret from its used keys, which are sorted by name.
func filesOf(ref *purserv1.SecretRef, used []Var) []fileOf {
	spec := ref.GetFile()
	if spec == nil {
		return nil
	}
	base := fileOf{target: launchspec.FileDirectory(spec), File: File{
		Secret: ref.GetName(), Mode: launchspec.FileMode(spec), UID: spec.Uid, GID: spec.Gid,
	}}
	if launchspec.FileFormat(spec) == launchspec.FormatKeys {
		files := make([]fileOf, len(used))
		for i, v := range used {
			files[i] = base
			files[i].Name, files[i].Key, files[i].Content = v.Name, v.Key, v.Value
		}
		return files
	}
	base.Name = gopath.Base(spec.GetPath())
	encode := asJSON
	if launchspec.FileFormat(spec) == launchspec.FormatDotenv {
		encode = asDotenv
	}
	base.Content, base.problem = encode(used)
	return []fileOf{base}
}

// asJSON is an object of strings.
func asJSON(used []Var) (content Value, problem string) {
	return compose(used, func(out *bytes.Buffer) {
		out.WriteString("{")
		for i, v := range used {
			if i > 0 {
				out.WriteString(",")
			}
			v.Value.use(func(value []byte) { fmt.Fprintf(out, "\n  %q: ", v.Name); writeJSON(out, value) })
		}
		out.WriteString("\n}\n")
	})
}

// writeJSON writes a string, with < and the like as they are. The encoder works on copies
// of its own, which stay in this process's memory until they are used anew.
func writeJSON(out *bytes.Buffer, value []byte) {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(string(value)) // of a string into memory, never an error
	out.Truncate(out.Len() - 1)       // the newline that it adds
}

// asDotenv is a line K='V' for each key, which shells and the readers of such files
// take alike: nothing within single quotes means anything, newlines included. What
// cannot be in single quotes is in double ones.
func asDotenv(used []Var) (content Value, problem string) {
	for _, v := range used {
		v.Value.use(func(value []byte) {
			// A shell wants a backslash before it, other readers would keep that.
			if !singleQuotable(value) && bytes.IndexByte(value, '`') >= 0 {
				problem = "key " + v.Key + " has a backtick and a single quote or a backslash at its end, which readers of dotenv files do not agree about: use format json or keys"
			}
		})
	}
	if problem != "" {
		return Value{}, problem
	}
	return compose(used, func(out *bytes.Buffer) {
		for _, v := range used {
			v.Value.use(func(value []byte) { out.WriteString(v.Name + "="); quote(out, value); out.WriteString("\n") })
		}
	})
}

// quote writes a value for a shell and other readers of dotenv files.
func quote(out *bytes.Buffer, value []byte) {
	if singleQuotable(value) {
		out.WriteString("'")
		out.Write(value)
		out.WriteString("'")
		return
	}
	out.WriteString(`"`)
	for _, b := range value {
		if strings.IndexByte(`"\$`, b) >= 0 {
			out.WriteByte('\\')
		}
		out.WriteByte(b)
	}
	out.WriteString(`"`)
}

// singleQuotable says whether a value can be in single quotes. Before the closing
// one some readers take a backslash for an escape, although shells do not.
func singleQuotable(value []byte) bool {
	backslashes := len(value) - len(bytes.TrimRight(value, `\`))
	return bytes.IndexByte(value, '\'') < 0 && backslashes%2 == 0
}

// compose makes one content of several values, all of them text.
func compose(used []Var, write func(*bytes.Buffer)) (content Value, problem string) {
	size := 0
	for _, v := range used {
		v.Value.use(func(value []byte) {
			size += len(v.Name) + 6*len(value) + len(": \"\",\n  ")
			switch {
			case !utf8.Valid(value):
				problem = "key " + v.Key + " is not UTF-8: deliver it with format keys, or store it encoded, in base64 for example"
			case bytes.IndexByte(value, 0) >= 0:
				problem = "key " + v.Key + " contains a NUL byte: deliver it with format keys"
			}
		})
	}
	if problem != "" {
		return Value{}, problem
	}
	// Large enough from the start: growing would leave copies of all that is in it behind.
	out := bytes.NewBuffer(make([]byte, 0, size+8))
	write(out)
	defer clear(out.Bytes())
	return NewValue(out.Bytes()), ""
}
