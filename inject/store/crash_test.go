package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
)

// writerVariable makes the test binary a writer to the store that it names, for
// TestCrash to kill.
const writerVariable = "PURSER_TEST_STORE_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerVariable); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeUntilKilled says "try N" before it writes a version whose content is N, and
// "done N" after. N goes on where the store is.
func writeUntilKilled(dir string) error {
	p := place{dir: filepath.Join(dir, "secrets")}
	var err error
	if p.keys, err = keyring.Open(filepath.Join(dir, "identity.age")); err != nil {
		return err
	}
	s, err := store.Open(p.dir, p.keys, store.Options{})
	if err != nil {
		return err
	}
	for n := counter(s) + 1; ; n++ {
		fmt.Println("try", n)
		if err := writeOnce(s, n); err != nil {
			return err
		}
		fmt.Println("done", n)
	}
}

// writeOnce makes every kind of change, so that a kill hits each.
func writeOnce(s *store.Store, n uint64) error {
	data := values(fmt.Sprintf("N=%d", n), "PADDING="+strings.Repeat("x", 1<<rand.IntN(17)))
	if _, err := s.Put(context.Background(), "dev", "counter", store.PutOptions{Data: data}); err != nil {
		return err
	}
	if _, err := s.Prune("dev", "counter", 3, nil); err != nil {
		return err
	}
	name := fmt.Sprintf("passing-%d", n%2)
	if _, err := s.Put(context.Background(), "prod", name, store.PutOptions{Data: data}); err != nil {
		return err
	}
	_, err := s.Delete("prod", name, nil, false)
	return err
}

// counter is what the newest version of dev/counter says; 0 when there is none.
func counter(s *store.Store) uint64 {
	secret, err := s.Get(context.Background(), "dev", "counter", 0)
	if errors.Is(err, inject.ErrNotFound) {
		return 0
	}
	if err != nil {
		panic(err)
	}
	n, err := strconv.ParseUint(string(secret.Data["N"].Reveal()), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// A writer killed at any moment leaves the old version or the new one, everything that
// it had acknowledged, and nothing that is damaged or half there.
func TestCrash(t *testing.T) {
	p := newPlace(t)
	deadline := time.Now().Add(4 * time.Second)
	if testing.Short() {
		deadline = time.Now().Add(time.Second)
	}
	kills, midway := 0, 0
	for ; kills < 5 || time.Now().Before(deadline); kills++ {
		tried, done := killWriter(t, filepath.Dir(p.dir))
		s := p.open(t)
		n := counter(s)
		if n < done || n > tried {
			t.Fatalf("kill %d: the store is at %d, tried was %d and done %d", kills, n, tried, done)
		}
		if tried > done {
			midway++
		}
		must(t, s.Verify(t.Context()))
		wantOnlyKnownFiles(t, p, s)
		must(t, s.Close())
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d kills, %d of them while writing", kills, midway)
	if midway == 0 {
		t.Error("no kill hit a write")
	}
}

// killWriter starts a writer, kills it a random time after its first write has begun,
// and returns the last numbers that it tried and had done.
func killWriter(t *testing.T, dir string) (tried, done uint64) {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), writerVariable+"="+dir)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		var word string
		var n uint64
		if _, err := fmt.Sscan(line, &word, &n); err != nil {
			t.Fatalf("the writer says %q", line)
		}
		if tried == 0 {
			delay := time.Duration(rand.Int64N(int64(40 * time.Millisecond)))
			time.AfterFunc(delay, func() { _ = command.Process.Kill() })
		}
		if word == "done" {
			done = n
		} else {
			tried = n
		}
	}
	err = command.Wait()
	if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return tried, max(done, tried-1)
}

func wantOnlyKnownFiles(t *testing.T, p place, s *store.Store) {
	t.Helper()
	versions := 0
	for _, info := range s.List("") {
		versions += len(info.Versions)
	}
	if files := sealedFiles(t, p); len(files) != versions {
		t.Errorf("%d versions, files %v", versions, files)
	}
	entries, err := filepath.Glob(p.file("*"))
	must(t, err)
	hidden, err := filepath.Glob(p.file(".*"))
	must(t, err)
	if len(entries) > 1+len(s.Environments()) || len(hidden) > 0 {
		t.Errorf("left behind: %v %v", entries, hidden)
	}
}
