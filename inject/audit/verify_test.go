package audit_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/purserd/purser/inject/audit"
)

// whole makes a closed trail of records 1 to n in files of a few records each.
func whole(t testing.TB, n int) *place {
	t.Helper()
	p := newPlace(t)
	p.options.FileSize = 2000 // 6 records, then 5 each
	l := p.open(t)
	appendAll(t, l, n-1)
	must(t, l.Close())
	return p
}

// edit changes the lines of one file.
func (p *place) edit(t testing.TB, file int, change func([][]byte) [][]byte) {
	t.Helper()
	files := p.files(t)
	path := files[(file+len(files))%len(files)]
	write(t, path, bytes.Join(change(lines(read(t, path))), nil))
}

func TestDamageIsNamed(t *testing.T) {
	type want struct {
		kind      audit.Kind
		file      int // -1 for none
		line      int
		seq, last uint64
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, p *place)
		want   []want
	}{
		"a byte is changed": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte {
				l[2] = bytes.Replace(l[2], []byte(`"uid":1000`), []byte(`"uid":1001`), 1)
				return l
			})
		}, []want{{audit.Changed, 0, 3, 3, 0}}},
		"a MAC is changed": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte { l[2][len(l[2])-4] ^= 1; return l })
		}, []want{{audit.Changed, 0, 3, 3, 0}}},
		"a MAC is in capitals": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte {
				at := len(l[2]) - 67
				copy(l[2][at:at+64], bytes.ToUpper(l[2][at:at+64]))
				return l
			})
		}, []want{{audit.Changed, 0, 3, 3, 0}}},
		"a line is dropped": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte { return slices.Delete(l, 2, 3) })
		}, []want{{audit.Dropped, 0, 3, 3, 0}}},
		"lines are dropped": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte { return slices.Delete(l, 2, 4) })
		}, []want{{audit.Dropped, 0, 3, 3, 4}}},
		"lines are swapped": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l })
		}, []want{{audit.Reordered, 0, 4, 3, 0}}},
		"a line is repeated": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte { return slices.Insert(l, 4, l[1]) })
		}, []want{{audit.Repeated, 0, 5, 2, 0}}},
		"a line is added": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte { return slices.Insert(l, 2, []byte("{\"seq\":3}\n")) })
		}, []want{{audit.Foreign, 0, 3, 0, 0}}},
		"a file's end is cut off": {func(t *testing.T, p *place) {
			p.edit(t, 0, func(l [][]byte) [][]byte { return l[:len(l)-1] })
		}, []want{{audit.Truncated, 0, 5, 6, 0}}},
		"the trail's end is cut off": {func(t *testing.T, p *place) {
			p.edit(t, -1, func(l [][]byte) [][]byte { return l[:len(l)-1] })
		}, []want{{audit.Truncated, 3, 3, 20, 0}}},
		"the last newline is cut off": {func(t *testing.T, p *place) {
			p.edit(t, -1, func(l [][]byte) [][]byte { l[3] = bytes.TrimSpace(l[3]); return l })
		}, []want{{audit.Changed, 3, 4, 20, 0}}},
		"a file is removed": {func(t *testing.T, p *place) {
			must(t, os.Remove(p.files(t)[1]))
		}, []want{{audit.Truncated, 0, 6, 7, 11}}},
		"the last file is removed": {func(t *testing.T, p *place) {
			must(t, os.Remove(p.files(t)[3]))
		}, []want{{audit.Truncated, 2, 5, 17, 20}}},
		"all files are removed": {func(t *testing.T, p *place) {
			for _, file := range p.files(t) {
				must(t, os.Remove(file))
			}
		}, []want{{audit.Dropped, 0, 1, 1, 20}}},
		"a file is renamed": {func(t *testing.T, p *place) {
			must(t, os.Rename(p.files(t)[1], filepath.Join(p.dir, "audit-000000000008.jsonl")))
		}, []want{{audit.Foreign, -1, 1, 7, 0}}},
		"a stranger's file": {func(t *testing.T, p *place) {
			write(t, filepath.Join(p.dir, "notes"), nil)
		}, []want{{audit.Foreign, -1, 0, 0, 0}}},
		"the head is forged": {func(t *testing.T, p *place) {
			p.heads.head = bytes.Replace(p.heads.head, []byte(`"seq":20`), []byte(`"seq":19`), 1)
		}, nil},
		"the head is lost": {func(t *testing.T, p *place) { p.heads.head = nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := whole(t, 20)
			before := p.files(t)
			c.damage(t, p)
			var warned error
			p.options.Warn = func(err error) { warned = err }
			l := p.opened(t)
			r := verify(t, l)
			found := slices.DeleteFunc(slices.Clone(r.Problems), func(p audit.Problem) bool { return p.Kind == audit.Noted })
			var got []want
			for _, problem := range found {
				w := want{problem.Kind, slices.IndexFunc(before, func(path string) bool { return filepath.Base(path) == problem.File }), problem.Line, problem.Seq, problem.Last}
				if problem.File != "" && w.file < 0 && w.kind == audit.Dropped {
					w.file = 0 // the one that the trail goes on in
				}
				got = append(got, w)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %s", show(r.Problems))
			}
			// What an opening sees, it says, and goes on; what it does not, verify finds.
			if noted := len(found) < len(r.Problems); noted != (warned != nil) || r.OK() {
				t.Errorf("warned %v of %s", warned, show(r.Problems))
			}
			_, err := l.Commit(set(1))
			must(t, err)
			if again := verify(t, l); len(again.Problems) != len(r.Problems) {
				t.Errorf("later: %s", show(again.Problems))
			}
		})
	}
}

// While the trail is open, too, what was done to its files and its head is found,
// and the trail goes on elsewhere.
func TestDamageWhileOpen(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, p *place){
		"removed":   func(t *testing.T, p *place) { must(t, os.Remove(p.files(t)[0])) },
		"truncated": func(t *testing.T, p *place) { must(t, os.Truncate(p.files(t)[0], 700)) },
		"emptied":   func(t *testing.T, p *place) { must(t, os.Truncate(p.files(t)[0], 0)) },
		"appended": func(t *testing.T, p *place) {
			write(t, p.files(t)[0], append(read(t, p.files(t)[0]), "{}\n"...))
		},
		"head set back": func(t *testing.T, p *place) { must(t, p.heads.SetAuditHead(p.copied(t).heads.head)) },
		"head removed":  func(t *testing.T, p *place) { must(t, p.heads.SetAuditHead(nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l := p.opened(t)
			_, err := l.Commit(set(1))
			must(t, err)
			if name == "head set back" {
				old, _ := p.heads.AuditHead()
				_, err = l.Commit(set(2))
				must(t, err)
				must(t, p.heads.SetAuditHead(old))
			} else {
				damage(t, p)
			}
			r := verify(t, l)
			if r.OK() {
				t.Error("nothing was found")
			}
			_, err = l.Append(set(3))
			must(t, err)
			if again := verify(t, l); again.OK() || again.Last != r.Last+1 {
				t.Errorf("later: %+v", again)
			}
		})
	}
}

func TestCutOffWhileOpen(t *testing.T) {
	p := newPlace(t)
	l := p.opened(t)
	appendAll(t, l, 3)
	p.edit(t, 0, func(all [][]byte) [][]byte { return all[:2] })
	r := verify(t, l)
	if len(r.Problems) != 1 || r.Problems[0].Kind != audit.Truncated || r.Problems[0].Line != 2 || r.Problems[0].Seq != 3 || r.Problems[0].Last != 4 {
		t.Errorf("got %s", show(r.Problems))
	}
}

// Two histories of one node, as after a backup was restored, do not pass for one.
func TestForks(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	appendAll(t, l, 2)
	must(t, l.Close())
	other := p.copied(t)
	for _, q := range []*place{p, other} {
		l := q.open(t)
		appendAll(t, l, 3) // records 5 to 7; both are authentic, and differ in their time
		must(t, l.Close())
	}
	theirs := lines(read(t, other.files(t)[0]))
	for name, c := range map[string]struct {
		line int
		seqs []uint64
	}{
		"in the middle": {4, []uint64{5, 6}},
		"at the end":    {6, []uint64{7, 8}}, // the opening's record follows
	} {
		t.Run(name, func(t *testing.T) {
			q := p.copied(t)
			q.edit(t, 0, func(all [][]byte) [][]byte {
				all[c.line] = theirs[c.line]
				return all
			})
			var got []uint64
			for _, problem := range reopenAndVerify(t, q).Problems {
				if problem.Kind == audit.Forked {
					got = append(got, problem.Seq)
				}
			}
			if !slices.Equal(got, c.seqs) {
				t.Errorf("forks at %v", got)
			}
		})
	}
}

// Whatever is done to the bytes of the files is found.
func TestAnyMutationIsFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPlace(t)
		p.options.FileSize = int64(rapid.IntRange(300, 3000).Draw(rt, "file size"))
		p.options.Files = rapid.IntRange(2, 20).Draw(rt, "files")
		for range rapid.IntRange(1, 3).Draw(rt, "openings") {
			l := p.open(t)
			appendAll(t, l, rapid.IntRange(0, 15).Draw(rt, "records"))
			must(t, l.Close())
		}
		whole := p.copied(t)
		what := mutate(rt, t, p)
		p.options.Files = 100 // rotation would end what is found
		if r := reopenAndVerify(t, p); r.OK() {
			rt.Fatalf("not found: %s", what)
		}
		if r := reopenAndVerify(t, p); r.OK() {
			rt.Fatalf("not found by the next opening: %s", what)
		}
		wantWhole(t, whole)
	})
}

// mutate changes something and says what.
func mutate(rt *rapid.T, t *testing.T, p *place) string {
	files := p.files(t)
	path := rapid.SampledFrom(files).Draw(rt, "file")
	data := read(t, path)
	all := lines(data)
	i := rapid.IntRange(0, len(all)-1).Draw(rt, "line")
	kind := rapid.SampledFrom([]string{"change", "insert", "remove", "drop", "swap", "move", "repeat", "truncate", "delete file", "swap files", "rename"}).Draw(rt, "kind")
	at := rapid.IntRange(0, len(data)-1).Draw(rt, "at")
	switch kind {
	case "change":
		data[at] ^= rapid.ByteRange(1, 255).Draw(rt, "bits")
		write(t, path, data)
	case "insert":
		write(t, path, slices.Insert(data, at, rapid.SliceOfN(rapid.Byte(), 1, 5).Draw(rt, "bytes")...))
	case "remove":
		write(t, path, slices.Delete(data, at, min(len(data), at+rapid.IntRange(1, 1000).Draw(rt, "count"))))
	case "drop":
		write(t, path, bytes.Join(slices.Delete(all, i, i+1), nil))
	case "swap":
		j := rapid.IntRange(0, len(all)-1).Filter(func(j int) bool { return len(all) == 1 || j != i }).Draw(rt, "other line")
		if len(all) == 1 {
			return mutate(rt, t, p)
		}
		all[i], all[j] = all[j], all[i]
		write(t, path, bytes.Join(all, nil))
	case "move":
		other := rapid.SampledFrom(files).Draw(rt, "other file")
		if other == path {
			return mutate(rt, t, p)
		}
		write(t, path, bytes.Join(slices.Delete(slices.Clone(all), i, i+1), nil))
		write(t, other, append(read(t, other), all[i]...))
	case "repeat":
		write(t, path, bytes.Join(slices.Insert(slices.Clone(all), rapid.IntRange(0, len(all)).Draw(rt, "to"), all[i]), nil))
	case "truncate":
		write(t, path, data[:at])
	case "delete file":
		must(t, os.Remove(path))
	case "swap files":
		other := rapid.SampledFrom(files).Draw(rt, "other file")
		if other == path {
			return mutate(rt, t, p)
		}
		write(t, path, read(t, other))
		write(t, other, data)
	case "rename":
		must(t, os.Rename(path, filepath.Join(p.dir, fmt.Sprintf("audit-%012d.jsonl", rapid.IntRange(1000, 2000).Draw(rt, "name")))))
	}
	return fmt.Sprintf("%s %s line %d byte %d", kind, path, i+1, at)
}
