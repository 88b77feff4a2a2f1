package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
)

// smallDisk is a file system of a few hundred KiB, with a store on it.
func smallDisk(t *testing.T) (place, string) {
	t.Helper()
	dir := rig.SmallDisk(t, "256k")
	keys, err := keyring.Open(filepath.Join(t.TempDir(), "identity.age"))
	must(t, err)
	return place{dir: filepath.Join(dir, "secrets"), keys: keys}, dir
}

func TestFullDisk(t *testing.T) {
	p, _ := smallDisk(t)
	s := p.open(t)
	put(t, s, "dev", "db", "A=1")
	before := s.Sequence()
	_, err := s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values("A=" + strings.Repeat("x", 512<<10))})
	if !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(err.Error(), `writing version 2 of secret "db" in environment "dev": `) {
		t.Errorf("got %v", err)
	}
	// Now the version fits and what goes into the journal does not.
	fill(t, p.file("..", "filler"), 4)
	_, err = s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values("A=" + strings.Repeat("x", 3000))})
	if !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(err.Error(), `writing to secret store "`+p.dir+`": `) {
		t.Errorf("got %v", err)
	}
	wantUntouched(t, p, s, before)
	must(t, os.Remove(p.file("..", "filler")))
	s = p.reopen(t, s)
	wantUntouched(t, p, s, before)
	if got := put(t, s, "dev", "db", "A=2"); got != 2 {
		t.Errorf("the next version is %d", got)
	}
}

// fill leaves room for that many KiB.
func fill(t *testing.T, path string, room int) {
	t.Helper()
	var stat unix.Statfs_t
	must(t, unix.Statfs(filepath.Dir(path), &stat))
	free := int(stat.Bavail) * int(stat.Bsize)
	overwrite(t, path, make([]byte, free-room<<10))
}

func wantUntouched(t *testing.T, p place, s *store.Store, sequence uint64) {
	t.Helper()
	wantContent(t, s, "dev", "db", 0, "1 A=1")
	if s.Sequence() != sequence {
		t.Errorf("sequence was %d and is %d", sequence, s.Sequence())
	}
	if files := sealedFiles(t, p); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	must(t, s.Verify(t.Context()))
}

func TestReadOnlyDisk(t *testing.T) {
	p, mount := smallDisk(t)
	s := p.open(t)
	put(t, s, "dev", "db", "A=1")
	must(t, s.Close())
	must(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	s = p.open(t)
	before := s.Sequence()
	_, putErr := s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values("A=2")})
	_, deleteErr := s.Delete("dev", "db", nil, true)
	for name, err := range map[string]error{"Put": putErr, "Delete": deleteErr} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	wantUntouched(t, p, s, before)
}
