package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/store"
)

// journaled is a store with three changes in its journal, that was not closed.
func journaled(t *testing.T) (place, *store.Store) {
	t.Helper()
	p := newPlace(t)
	s := p.open(t)
	put(t, s, "dev", "db", "A=1")
	put(t, s, "dev", "db", "A=2")
	put(t, s, "prod", "api", "B=1")
	return p, s
}

// What a loss of power leaves of files that were not synced is mended from the journal.
func TestPowerCut(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"gone":                    func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"gone with its directory": func(t *testing.T, path string) { must(t, os.RemoveAll(filepath.Dir(path))) },
		"empty":                   func(t *testing.T, path string) { overwrite(t, path, nil) },
		"zeros":                   func(t *testing.T, path string) { overwrite(t, path, make([]byte, len(read(t, path)))) },
		"as it was":               func(*testing.T, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := journaled(t)
			seen := s.Sequence()
			s.CutPower(func(path string) { damage(t, path) })
			s, err := store.Open(p.dir, p.keys, store.Options{MinSequence: seen})
			must(t, err)
			defer s.Close()
			wantContent(t, s, "dev", "db", 1, "1 A=1")
			wantContent(t, s, "dev", "db", 0, "2 A=2")
			wantContent(t, s, "prod", "api", 0, "1 B=1")
			must(t, s.Verify(t.Context()))
			wantOnlyKnownFiles(t, p, s)
		})
	}
}

// A line that was being written is not there afterwards, wherever it was cut off; all
// before it is.
func TestTornLine(t *testing.T) {
	p, s := journaled(t)
	path, seen := s.Journal(), s.Sequence()
	before := read(t, path)
	put(t, s, "dev", "db", "A=3")
	whole := read(t, path)
	s.Kill()
	torn := map[string][]byte{
		"nothing": whole[:len(before)], "a byte": whole[:len(before)+1], "the MAC": whole[:len(before)+65],
		"half": whole[:(len(before)+len(whole))/2], "all but the end": whole[:len(whole)-1],
		"zeros":                      append(bytes.Clone(before), make([]byte, len(whole)-len(before))...),
		"an end without a beginning": append(append(bytes.Clone(before), make([]byte, 100)...), whole[len(before)+100:]...),
	}
	for name, data := range torn {
		t.Run(name, func(t *testing.T) {
			copied := p
			copied.dir = filepath.Join(t.TempDir(), "secrets")
			must(t, exec.Command("cp", "-a", p.dir, copied.dir).Run())
			overwrite(t, filepath.Join(copied.dir, filepath.Base(path)), data)
			s := copied.open(t)
			if s.Sequence() != seen {
				t.Errorf("it is at %d, and was at %d", s.Sequence(), seen)
			}
			wantContent(t, s, "dev", "db", 0, "2 A=2")
			wantOnlyKnownFiles(t, copied, s)
			put(t, s, "dev", "db", "A=4")
			s.Kill()
			wantContent(t, copied.open(t), "dev", "db", 0, "3 A=4")
		})
	}
}

// A journal that was changed is not taken for one that was torn.
func TestDamagedJournal(t *testing.T) {
	const forged = "it was changed by something other than purser"
	for name, test := range map[string]struct {
		damage func(lines [][]byte) [][]byte
		want   string
	}{
		"a bit":           {func(l [][]byte) [][]byte { return [][]byte{l[0], changed(l[1], 100), l[2]} }, forged},
		"a MAC":           {func(l [][]byte) [][]byte { return [][]byte{changed(l[0], 3), l[1], l[2]} }, forged},
		"a line left out": {func(l [][]byte) [][]byte { return [][]byte{l[0], l[2], l[2]} }, forged},
		"lines swapped":   {func(l [][]byte) [][]byte { return [][]byte{l[1], l[0], l[2]} }, forged},
		"a line repeated": {func(l [][]byte) [][]byte { return [][]byte{l[0], l[1], l[1], l[2]} }, forged},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := journaled(t)
			path := s.Journal()
			s.Kill()
			before := read(t, path)
			overwrite(t, path, bytes.Join(test.damage(bytes.SplitAfter(before, []byte("\n"))), nil))
			wantOpenDamage(t, p, store.Options{}, path, test.want)
			if len(sealedFiles(t, p)) != 3 {
				t.Error("a refused store was changed")
			}
			overwrite(t, path, before)
			wantContent(t, p.open(t), "dev", "db", 0, "2 A=2")
		})
	}
}

// A journal that is taken away, or cut after a line, puts the store back to an earlier state.
func TestJournalPutBack(t *testing.T) {
	p, s := journaled(t)
	path, seen := s.Journal(), s.Sequence()
	s.Kill()
	data := read(t, path)
	overwrite(t, path, data[:bytes.IndexByte(data, '\n')+1])
	wantOpenDamage(t, p, store.Options{MinSequence: seen}, p.file("_manifest.json"), "the store was put back to an earlier state: it is at change 2 and has been at 4")
	must(t, os.Remove(path))
	wantOpenDamage(t, p, store.Options{}, p.file("_manifest.json"), "it was put back to an earlier state: version 2 of secret db in environment dev is there")
	overwrite(t, path, data)
	wantContent(t, p.open(t), "dev", "db", 0, "2 A=2")
}

// A manifest takes a journal's place before that has become large, and whatever becomes of
// the machine just then, both are there or the newer one.
func TestCheckpoint(t *testing.T) {
	p, s := journaled(t)
	first := s.Journal()
	old := read(t, first)
	for s.Journal() == first {
		put(t, s, "dev", "large", "A="+strings.Repeat("x", 100<<10), "N="+filepath.Base(t.TempDir()))
		_, err := s.Prune("dev", "large", 1, nil)
		must(t, err)
	}
	if info, err := os.Stat(first); err == nil {
		t.Errorf("%s is still there, of %d bytes", first, info.Size())
	}
	newest := s.Sequence()
	s.CutPower(func(path string) { t.Errorf("%s is not on disk", path) })
	overwrite(t, first, old) // as if it had not been removed any more
	s, err := store.Open(p.dir, p.keys, store.Options{MinSequence: newest})
	must(t, err)
	defer s.Close()
	wantContent(t, s, "dev", "db", 0, "2 A=2")
	wantOnlyKnownFiles(t, p, s)
}

// A store is opened with its journal where nothing can be written, and goes on when it can.
func TestJournalOnAReadOnlyDisk(t *testing.T) {
	p, mount := smallDisk(t)
	s := p.open(t)
	put(t, s, "dev", "db", "A=1")
	s.CutPower(func(path string) { must(t, os.Truncate(path, 0)) })
	must(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	s = p.open(t)
	wantContent(t, s, "dev", "db", 0, "1 A=1")
	if _, err := s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values("A=2")}); err == nil {
		t.Error("it was written")
	}
	must(t, unix.Mount("", mount, "", unix.MS_REMOUNT, ""))
	put(t, s, "dev", "db", "A=2")
	s.Kill()
	s = p.open(t)
	wantContent(t, s, "dev", "db", 1, "1 A=1")
	wantContent(t, s, "dev", "db", 0, "2 A=2")
}

// What the journal has can be read, and the journal stays, as long as a full disk keeps a
// manifest from taking its place.
func TestJournalOnAFullDisk(t *testing.T) {
	p, _ := smallDisk(t)
	s := p.open(t)
	put(t, s, "dev", "db", "A=1")
	seen := s.Sequence()
	s.CutPower(func(path string) { must(t, os.Remove(path)) })
	fill(t, p.file("..", "filler"), 0)
	s = p.open(t)
	wantContent(t, s, "dev", "db", 0, "1 A=1") // of the journal
	if _, err := os.Stat(p.file("dev", "db", "1.age")); err == nil {
		t.Error("what there was no room for is there")
	}
	s.Kill()
	must(t, os.Remove(p.file("..", "filler")))
	s, err := store.Open(p.dir, p.keys, store.Options{MinSequence: seen})
	must(t, err)
	defer s.Close()
	wantContent(t, s, "dev", "db", 0, "1 A=1")
	wantOnlyKnownFiles(t, p, s)
}

// Of a journal whose first line was never whole nothing is left.
func TestTornJournal(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	path := s.Journal()
	must(t, s.Close())
	overwrite(t, path, []byte("0123"))
	s = p.open(t)
	wantOnlyKnownFiles(t, p, s)
	put(t, s, "dev", "db", "A=1")
	s.Kill()
	wantContent(t, p.open(t), "dev", "db", 0, "1 A=1")
}

// A journal that was taken away, or written to by others, while the store is open costs
// nothing that it had.
func TestJournalChangedWhileOpen(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"removed":  func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"replaced": func(t *testing.T, path string) { overwrite(t, path, []byte("mine")) },
		"grown":    func(t *testing.T, path string) { overwrite(t, path, append(read(t, path), "mine"...)) },
	} {
		t.Run(name, func(t *testing.T) {
			p, s := journaled(t)
			change(t, s.Journal())
			put(t, s, "dev", "db", "A=3")
			put(t, s, "dev", "db", "A=4")
			seen := s.Sequence()
			s.CutPower(func(path string) {})
			s, err := store.Open(p.dir, p.keys, store.Options{MinSequence: seen})
			must(t, err)
			defer s.Close()
			for i, want := range []string{"1 A=1", "2 A=2", "3 A=3", "4 A=4"} {
				wantContent(t, s, "dev", "db", uint32(i+1), want)
			}
			wantContent(t, s, "prod", "api", 0, "1 B=1")
		})
	}
}

// A last line that is whole is not taken for one that was torn, even if this purser cannot
// read it: somebody was told that it is there.
func TestLineOfANewerPurser(t *testing.T) {
	p, s := journaled(t)
	path := s.Journal()
	must(t, s.AddLine(`{"sequence":5,"environment":"dev","name":"db","record":{"next":4},"novelty":true}`))
	s.Kill()
	wantOpenDamage(t, p, store.Options{}, path, `it is not what purser writes: json: unknown field "novelty"`)
}

// A journal that cannot be read is not damaged.
func TestUnreadableJournal(t *testing.T) {
	p, s := journaled(t)
	path := s.Journal()
	s.Kill()
	must(t, os.Rename(path, path+".kept"))
	must(t, os.Mkdir(path, 0o700))
	_, err := store.Open(p.dir, p.keys, store.Options{})
	var damage *store.DamageError
	if !errors.Is(err, unix.EISDIR) || errors.As(err, &damage) {
		t.Errorf("got %v", err)
	}
	must(t, os.Remove(path))
	must(t, os.Rename(path+".kept", path))
	wantContent(t, p.open(t), "dev", "db", 0, "2 A=2")
}

// Of a secret that was destroyed nothing stays in the journal.
func TestDestroyedIsNotInTheJournal(t *testing.T) {
	p, s := journaled(t)
	path := s.Journal()
	_, err := s.Delete("dev", "db", nil, true)
	must(t, err)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", path, err)
	}
	s.Kill()
	wantContent(t, p.open(t), "prod", "api", 0, "1 B=1")
}

// A journal without its manifest is no empty store, and what is called after a journal alone
// is not purser's.
func TestJournalAlone(t *testing.T) {
	p, s := journaled(t)
	path := s.Journal()
	s.Kill()
	manifest := read(t, p.file("_manifest.json"))
	for _, name := range []string{"_manifest.json", "dev", "prod"} {
		must(t, os.RemoveAll(p.file(name)))
	}
	wantOpenDamage(t, p, store.Options{}, p.file("_manifest.json"), "it is missing, but its journal is there, "+path)
	overwrite(t, p.file("_manifest.json"), manifest)
	overwrite(t, path+".bak", nil)
	s = p.open(t)
	wantContent(t, s, "dev", "db", 0, "2 A=2")
	must(t, s.Close())
	read(t, path+".bak")
}

// A manifest of before there were journals is left as it is until there is a change, and gets
// none: a purser of that time would not miss what is in it.
func TestManifestWithoutAJournal(t *testing.T) {
	p := beforeSources(t)
	before := read(t, p.file("_manifest.json"))
	s := p.open(t)
	if !bytes.Equal(before, read(t, p.file("_manifest.json"))) {
		t.Error("the manifest was changed")
	}
	put(t, s, "dev", "db", "A=3")
	if !bytes.HasPrefix(read(t, p.file("_manifest.json")), []byte("purser secret store 2, ")) {
		t.Error("an older purser would read the manifest")
	}
	put(t, s, "dev", "db", "A=4")
	s.Kill()
	s = p.open(t)
	wantContent(t, s, "dev", "db", 3, "3 A=3")
	wantContent(t, s, "dev", "db", 0, "4 A=4")
}

// No change has to wait for the files of many others to be synced.
func TestFewAreSyncedTogether(t *testing.T) {
	s := newPlace(t).open(t)
	most := 0
	for i := range 500 {
		put(t, s, "dev", fmt.Sprint("secret-", i), "A=1")
		most = max(most, s.Unsynced())
	}
	if most > 200 || most < 150 {
		t.Errorf("up to %d files were not synced", most)
	}
	before := s.Unsynced()
	for i := range 10 { // those of versions that are gone do not count
		put(t, s, "dev", "db", fmt.Sprint("A=", i))
		_, err := s.Prune("dev", "db", 1, nil)
		must(t, err)
	}
	if now := s.Unsynced(); now != before+1 {
		t.Errorf("%d files were not synced, and %d are with one more", before, now)
	}
}

// Of versions that follow each other closely those have files in the end that are left.
func TestFilesOfABurst(t *testing.T) {
	p := newPlace(t)
	s, err := store.Open(p.dir, p.keys, store.Options{Apart: time.Hour})
	must(t, err)
	for _, value := range []string{"A=1", "A=2", "A=3", "A=4"} {
		put(t, s, "dev", "db", value)
	}
	wantFiles := func(want ...string) {
		t.Helper()
		got := sealedFiles(t, p)
		for i := range want {
			want[i] = p.file("dev", "db", want[i])
		}
		if !slices.Equal(got, want) {
			t.Errorf("files %v, want %v", got, want)
		}
	}
	wantFiles("1.age")
	wantContent(t, s, "dev", "db", 2, "2 A=2")
	_, err = s.Prune("dev", "db", 2, nil)
	must(t, err)
	must(t, s.WriteFiles())
	wantFiles("3.age", "4.age")
	put(t, s, "dev", "db", "A=5")
	must(t, s.Verify(t.Context()))
	s.CutPower(func(path string) { must(t, os.Remove(path)) })
	s = p.open(t)
	wantFiles("3.age", "4.age", "5.age")
	must(t, s.Verify(t.Context()))
	wantContent(t, s, "dev", "db", 0, "5 A=5")
}
