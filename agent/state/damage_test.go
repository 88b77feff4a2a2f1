package state

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// filled is a database with many records, as it is on disk, and the records.
func filled(t testing.TB, records int) ([]byte, map[string]*statev1.Workload) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*statev1.Workload{}
	for part := range 10 { // several transactions, so that there are free pages
		err := db.Update(func(tx *Tx) error {
			for n := part * records / 10; n < (part+1)*records/10; n++ {
				w := &statev1.Workload{Environment: "dev", Id: fmt.Sprintf("a/f%05d", n), Generation: uint64(n), Goal: "run", Spec: &purserv1.LaunchSpec{
					App: proto.String("a"), Env: map[string]string{"SOMETHING": strings.Repeat("x", 200+n%500)},
				}}
				s := &statev1.Status{State: "running", Run: uint64(n), Instances: []*statev1.Instance{{Id: fmt.Sprint(n), Spec: w.Spec}}}
				if err := tx.PutWorkload(w); err != nil {
					return err
				}
				if err := tx.PutStatus(Key(w.Environment, w.Id), s); err != nil {
					return err
				}
				w.Status = s
				all[w.Id] = w
			}
			return tx.PutApp(&statev1.App{Environment: "dev", Name: "a"})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.SetSecretsSequence(5); err != nil {
		t.Fatal(err)
	}
	db.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, all
}

// Whatever happens to the file, it opens, and what it gives is what was written.
func TestDamagedFileOpens(t *testing.T) {
	whole, written := filled(t, 200)
	page := os.Getpagesize()
	random := rand.New(rand.NewPCG(1, 2))
	somewhere := func(n int) int { return random.IntN(len(whole) - n) }
	kinds := map[string]func([]byte) []byte{
		"cut off":       func(b []byte) []byte { return b[:1+somewhere(1)] },
		"a zeroed page": func(b []byte) []byte { clear(b[somewhere(page)/page*page:][:page]); return b },
		"a moved page": func(b []byte) []byte {
			copy(b[somewhere(page)/page*page:][:page], whole[somewhere(page)/page*page:])
			return b
		},
		"garbage": func(b []byte) []byte {
			for i := somewhere(64); i < len(b) && random.IntN(64) > 0; i++ {
				b[i] = byte(random.Uint32())
			}
			return b
		},
		"a flipped bit": func(b []byte) []byte { b[somewhere(1)] ^= 1 << random.IntN(8); return b },
		"a flipped bit where it hurts": func(b []byte) []byte {
			b[somewhere(page)/page*page+random.IntN(160)] ^= 1 << random.IntN(8)
			return b
		},
		"all garbage": func(b []byte) []byte {
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			return b
		},
	}
	for kind, damage := range kinds {
		t.Run(kind, func(t *testing.T) {
			for range 30 {
				wantUsable(t, damage(slices.Clone(whole)), written)
			}
		})
	}
}

func wantUsable(t *testing.T, data []byte, written map[string]*statev1.Workload) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got, err := db.Workloads()
	if err != nil {
		t.Fatal(err)
	}
	loss := db.Loss()
	for _, w := range got {
		want := proto.CloneOf(written[w.GetId()])
		if len(loss.Records) > 0 && proto.Size(w.Status) == 0 {
			want.Status = w.Status // its own was lost, under whatever name it had by then
		}
		if !proto.Equal(w, want) {
			t.Errorf("%s is not what was written: %v", w.GetId(), w)
		}
	}
	if len(got) < len(written) && loss.Aside == "" && len(loss.Records) == 0 {
		t.Errorf("%d of %d are there, and nothing is said to be lost", len(got), len(written))
	}
	if loss.Aside != "" {
		if kept, err := os.ReadFile(loss.Aside); err != nil || !bytes.Equal(kept, data) {
			t.Errorf("the damaged one is not kept as it is: %v", err)
		}
	}
	// It can be written to, and is whole from then on.
	if err := db.Update(func(tx *Tx) error { return tx.PutWorkload(&statev1.Workload{Environment: "dev", Id: "new"}) }); err != nil {
		t.Error(err)
	}
	db.Close()
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if loss := again.Loss(); loss.Aside != "" || loss.Records != nil {
		t.Errorf("damaged again: %+v", loss)
	}
}

// A record that is damaged takes no other along, and is kept.
func TestDamagedRecord(t *testing.T) {
	data, written := filled(t, 20)
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	key, flipped := []byte(Key("dev", "a/f00007")), []byte(nil)
	err = raw.Update(func(tx *bbolt.Tx) error {
		flipped = bytes.Clone(tx.Bucket(workloadsBucket).Get(key))
		flipped[len(flipped)/2] ^= 4
		return tx.Bucket(workloadsBucket).Put(key, flipped)
	})
	if err != nil {
		t.Fatal(err)
	}
	raw.Close()
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if loss := db.Loss(); fmt.Sprint(loss.Records) != "[workloads/dev/a/f00007]" || loss.Aside != "" {
		t.Fatalf("lost: %+v", loss)
	}
	if got, err := db.Workloads(); err != nil || len(got) != len(written)-1 {
		t.Errorf("%d of %d are left, %v", len(got), len(written), err)
	}
	db.bolt.View(func(tx *bbolt.Tx) error {
		_, kept := tx.Bucket(damagedBucket).Cursor().First()
		if !bytes.Equal(kept, flipped) {
			t.Error("the damaged record is not kept")
		}
		return nil
	})
}

// So it is with every kind of record: the database opens, says which one was damaged, and
// has none in its place.
func TestDamagedRecordOfEachKind(t *testing.T) {
	dev := []byte(Key("dev", "a/f00003"))
	for _, tc := range []struct {
		bucket, key []byte
		want        string
	}{
		{workloadsBucket, dev, "workloads/dev/a/f00003"}, {statusBucket, dev, "status/dev/a/f00003"},
		{appsBucket, []byte(Key("dev", "a")), "apps/dev/a"}, {metaBucket, sequenceKey, "meta/secrets_sequence"},
		{metaBucket, auditKey, "meta/audit_head"}, {metaBucket, drainKey, "meta/drain"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			data, _ := filled(t, 10)
			path := filepath.Join(t.TempDir(), "state.db")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			db := open(t, path)
			if err := errors.Join(db.SetAuditHead([]byte("head")), db.SetDrain(&statev1.Drain{Since: timestamppb.Now()})); err != nil {
				t.Fatal(err)
			}
			err := db.bolt.Update(func(tx *bbolt.Tx) error {
				flipped := bytes.Clone(tx.Bucket(tc.bucket).Get(tc.key))
				flipped[len(flipped)-1] ^= 4
				return tx.Bucket(tc.bucket).Put(tc.key, flipped)
			})
			if err = errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			db = open(t, path)
			if loss := db.Loss(); !slices.Equal(loss.Records, []string{tc.want}) || loss.Aside != "" {
				t.Errorf("lost: %+v", loss)
			}
			db.bolt.View(func(tx *bbolt.Tx) error {
				if is := tx.Bucket(tc.bucket).Get(tc.key); is != nil {
					t.Errorf("in its place is %q", is)
				}
				return nil
			})
			if _, err := db.Drain(); err != nil {
				t.Errorf("an agent cannot start: %v", err)
			}
		})
	}
}

// A page in use that counts as free would be written over with the next change.
func TestDamagedFreelist(t *testing.T) {
	data, _ := filled(t, 50)
	meta, size, err := readMeta(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	list := data[order.Uint64(meta[32:])*size:]
	if order.Uint16(list[10:]) == 0 {
		t.Fatal("no page is free")
	}
	order.PutUint64(list[pageHeader:], order.Uint64(meta[16:]))
	if _, err := checkFile(bytes.NewReader(data), int64(len(data))); err == nil || !strings.Contains(err.Error(), "is in use and counts as free") {
		t.Errorf("got %v", err)
	}
}

// A newer agent's database is left alone, also when something is wrong with it.
func TestDamagedNewerSchema(t *testing.T) {
	data, _ := filled(t, 50)
	schema := append(append([]byte{}, schemaKey...), 0, 0, 0, 0, 0, 0, 0, Schema)
	for at := 0; ; {
		next := bytes.Index(data[at:], schema)
		if next < 0 {
			break
		}
		at += next + len(schema)
		data[at-1] = Schema + 1
	}
	data = data[:len(data)-1]
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "newer purser") {
		t.Errorf("got %v", err)
	}
	if after, _ := content(t, path); !bytes.Equal(after, data) {
		t.Error("it was changed")
	}
}

func TestMadeDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	if !db.Loss().Made {
		t.Error("it was not there")
	}
	db.Close()
	if again := open(t, path); again.Loss().Made {
		t.Error("it was there")
	}
}

// What each start costs, with far more workloads than a node has.
func BenchmarkOpen(b *testing.B) {
	data, _ := filled(b, 10_000)
	path := filepath.Join(b.TempDir(), "state.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(data))/1e6, "MB")
	var checking time.Duration
	for b.Loop() {
		file, _ := os.Open(path)
		began := time.Now()
		if _, err := checkFile(file, int64(len(data))); err != nil {
			b.Fatal(err)
		}
		checking += time.Since(began)
		file.Close()
		db, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		db.Close()
	}
	b.ReportMetric(float64(checking.Milliseconds())/float64(b.N), "ms/check")
}
