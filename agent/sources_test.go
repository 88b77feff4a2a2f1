package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/state"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/mirror"
	"github.com/purserd/purser/inject/source"
	"github.com/purserd/purser/inject/store"
	"github.com/purserd/purser/metrics"
)

// sourced is a node with sources that can be started again and again.
type sourced struct {
	*Agent
	t   *testing.T
	dir string
	cfg *config.Config
	// quiet has the sources not be looked at any more.
	quiet func()
	bell  bell
}

// bell rings for whoever has listened.
type bell struct {
	mu   sync.Mutex
	next chan struct{}
}

func (b *bell) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// ringing rings a bell when something was done to a target.
type ringing struct {
	mirror.Target
	*bell
}

func (r ringing) Put(ctx context.Context, name source.Name, data map[string]inject.Value) error {
	defer r.ring()
	return r.Target.Put(ctx, name, data)
}

func (r ringing) Gone(ctx context.Context, name source.Name) error {
	defer r.ring()
	return r.Target.Gone(ctx, name)
}

func (r ringing) Up()                 { defer r.ring(); r.Target.Up() }
func (r ringing) Down(why error)      { defer r.ring(); r.Target.Down(why) }
func (r ringing) Looked(at time.Time) { defer r.ring(); r.Target.Looked(at) }
func (r ringing) Trouble(name source.Name, why error) {
	defer r.ring()
	r.Target.Trouble(name, why)
}

// withSources starts an agent; text is its configuration, in which DIR is a directory.
func withSources(t *testing.T, text string) *sourced {
	dir := t.TempDir()
	cfg := config.Default()
	cfg.StateDir, cfg.RunDir, cfg.Socket = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "run", "sock")
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Over(path); err != nil {
		t.Fatal(err)
	}
	s := &sourced{t: t, dir: dir, cfg: cfg}
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *sourced) start() {
	s.t.Helper()
	a := drainable(s.t)
	a.cfg = s.cfg
	keys, err := keyring.Open(filepath.Join(s.dir, "identity.age"))
	if err == nil {
		a.db, err = state.Open(filepath.Join(s.dir, "state.db"))
	}
	if err == nil {
		a.secrets, err = a.openSecrets(keys)
	}
	if err == nil {
		err = a.openAudit(keys)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	a.copies = inject.NewCopies(a.secrets)
	a.rotator = newRotator(a)
	a.openSources()
	for _, o := range a.origins {
		o.mirror.Target = ringing{o, &s.bell}
	}
	a.gate.open()
	s.Agent = a
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.runSources(ctx) })
	s.quiet = func() {
		cancel()
		running.Wait()
	}
}

// stop ends the agent, if there is one.
func (s *sourced) stop() {
	if s.Agent == nil {
		return
	}
	s.quiet()
	if err := errors.Join(s.secrets.Close(), s.audit.Close(), s.db.Close()); err != nil {
		s.t.Error(err)
	}
	s.Agent = nil
}

// write puts a secret into a directory as one file.
func (s *sourced) write(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sourced) remove(name string) {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

// until waits for an event, the text of which it returns.
func (s *sourced) until(kind, subject string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	found, text := errors.New("found"), ""
	err := s.Events(ctx, &purserv1.EventsRequest{Follow: true}, func(e *purserv1.Event) error {
		if e.GetType() != kind || e.GetSubject() != subject {
			return nil
		}
		text = e.GetMessage()
		return found
	})
	if !errors.Is(err, found) {
		s.t.Fatalf("there is no %s of %s: %v", kind, subject, err)
	}
	return text
}

// eventually waits until something is so that comes of what sources have done.
func (s *sourced) eventually(ok func() bool) bool {
	for timeout := time.After(20 * time.Second); ; {
		next := s.bell.listen()
		if ok() {
			return true
		}
		select {
		case <-next:
		case <-timeout:
			return false
		}
	}
}

// holds waits until a secret of dev has a version with a content; A is its key.
func (s *sourced) holds(name string, version uint32, value string) {
	s.t.Helper()
	var got *inject.Secret
	var err error
	arrived := s.eventually(func() bool {
		got, err = s.secrets.Get(s.t.Context(), "dev", name, 0)
		return err == nil && got.Version == version
	})
	if !arrived || string(got.Data["A"].Reveal()) != value {
		s.t.Fatalf("got %+v, %v; want version %d", got, err, version)
	}
}

// holding starts an agent whose source has secrets, and has taken them.
func holding(t *testing.T, secrets ...string) *sourced {
	t.Helper()
	s := withSources(t, oneSource)
	for _, name := range secrets {
		s.write("files/"+name+".env", "A=1")
	}
	s.start()
	for _, name := range secrets {
		s.holds(name, 1, "1")
	}
	return s
}

const oneSource = "[sources.files]\ntype = \"dir\"\npath = \"DIR/files\"\nenvironment = \"dev\"\n"

func TestSourceIsMirrored(t *testing.T) {
	s := holding(t, "db")
	if text := s.until("SecretSet", "db"); text != "version 1, keys A, from source files" {
		t.Errorf("the event says %s", text)
	}
	s.write("files/db.env", "A=2")
	s.holds("db", 2, "2")
	s.stop()
	s.start() // nothing has changed
	s.write("files/other.env", "A=1")
	s.holds("other", 1, "1")
	s.holds("db", 2, "2")
	s.stop()
	s.write("files/db.env", "A=3") // while the agent is down
	s.start()
	s.holds("db", 3, "3")
	described, err := s.DescribeSecret("dev", "db")
	if err != nil || described.GetSecret().GetSource() != "files" || len(described.GetVersions()) != 3 {
		t.Errorf("got %v, %v", described, err)
	}
}

// A secret of a source is changed in the source alone.
func TestSecretOfSourceIsNotSet(t *testing.T) {
	s := holding(t, "db")
	s.write("files/db.env", "A=2")
	s.holds("db", 2, "2")
	_, put := s.PutSecret(t.Context(), &purserv1.PutRequest{Environment: "dev", Name: "db", Data: map[string][]byte{"A": []byte("3")}})
	_, rollback := s.RollbackSecret(t.Context(), &purserv1.RollbackRequest{Name: "db"})
	_, gone := s.DeleteSecret(t.Context(), "dev", "db", false)
	for what, err := range map[string]error{"set": put, "rollback": rollback, "delete": gone} {
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Reason != Precondition {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, word := range []string{"secret db", "environment dev", "source files", filepath.Join(s.dir, "files")} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", what, err, word)
			}
		}
	}
	s.holds("db", 2, "2")
}

func TestSourceThatIsDown(t *testing.T) {
	s := holding(t, "db")
	s.remove("files")
	if text := s.until("SecretSourceDown", "files"); !strings.Contains(text, "last read") || !strings.Contains(text, filepath.Join(s.dir, "files")) {
		t.Errorf("the event says %s", text)
	}
	s.holds("db", 1, "1")
	s.measured("files", func(m metrics.SecretSource) bool { return !m.Up && !m.LastSuccess.IsZero() })
	s.stop()
	s.start() // on what was read last
	s.until("SecretSourceDown", "files")
	s.holds("db", 1, "1")
	s.measured("files", func(m metrics.SecretSource) bool { return !m.Up && m.LastSuccess.IsZero() })
	s.write("files/db.env", "A=2")
	s.until("SecretSourceUp", "files")
	s.holds("db", 2, "2")
	s.measured("files", func(m metrics.SecretSource) bool { return m.Up && !m.LastSuccess.IsZero() && m.Troubles == 0 })
}

// measured waits until a source is measured as want says.
func (s *sourced) measured(name string, want func(m metrics.SecretSource) bool) {
	s.t.Helper()
	var m metrics.SecretSource
	if !s.eventually(func() bool { m = s.origins[name].measure(); return m.Name == name && want(m) }) {
		s.t.Errorf("measured are %+v", m)
	}
}

func TestSecretThatVanishes(t *testing.T) {
	s := holding(t, "db", "other")
	s.remove("files/db.env")
	if text := s.until("SecretDeleted", "db"); text != "gone from source files" {
		t.Errorf("the event says %s", text)
	}
	if _, err := s.secrets.Get(t.Context(), "dev", "db", 0); !errors.Is(err, inject.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	s.write("files/db.env", "A=1")
	s.holds("db", 2, "1") // no number twice
}

// A secret in two places is an error that names both, until it is in one.
func TestSecretInTwoPlaces(t *testing.T) {
	s := withSources(t, oneSource+"[sources.more]\ntype = \"dir\"\npath = \"DIR/more\"\nenvironment = \"dev\"\n")
	s.write("files/own.env", "A=file")
	s.write("more/x.env", "A=1")
	s.start()
	s.holds("own", 1, "file")
	if _, err := s.PutSecret(t.Context(), &purserv1.PutRequest{Environment: "dev", Name: "db", Data: map[string][]byte{"A": []byte("set")}}); err != nil {
		t.Fatal(err)
	}
	s.holds("db", 1, "set")
	s.write("files/db.env", "A=file")
	s.write("more/own.env", "A=other")
	for subject, places := range map[string][]string{"db": {"secret set", "files"}, "own": {"files", "more"}} {
		text := s.until("SecretConflict", subject)
		_, err := s.secrets.Get(t.Context(), "dev", subject, 0)
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) {
			t.Fatalf("%s: got %v", subject, err)
		}
		for _, place := range places {
			if !strings.Contains(err.Error(), place) || !strings.Contains(text, place) {
				t.Errorf("%s: %q and %q do not name %s", subject, err, text, place)
			}
		}
		if _, err := s.secrets.Get(t.Context(), "dev", subject, 1); err != nil {
			t.Errorf("%s: the version that runs: %v", subject, err)
		}
	}
	for _, name := range []string{"files", "more"} {
		s.measured(name, func(m metrics.SecretSource) bool { return m.Up && m.Troubles == 1 })
	}
	s.remove("more/own.env")
	s.holds("own", 1, "file")
	if _, err := s.DeleteSecret(t.Context(), "dev", "db", false); err != nil {
		t.Fatal(err)
	}
	s.holds("db", 2, "file")
}

// Secrets of a source that is not configured any more are whose who wants them.
func TestSourceThatIsRenamed(t *testing.T) {
	s := holding(t, "db", "api")
	s.stop()
	s.cfg.Sources = nil
	s.start()
	s.holds("db", 1, "1")
	if _, err := s.PutSecret(t.Context(), &purserv1.PutRequest{Environment: "dev", Name: "api", Data: map[string][]byte{"A": []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.cfg.Sources = map[string]config.Source{"new": {Type: "dir", Path: filepath.Join(s.dir, "files"), Environment: "dev"}}
	s.start()
	s.until("SecretConflict", "api")
	s.write("files/db.env", "A=2")
	s.holds("db", 2, "2")
}

// What is wrong with a secret is told with its file, and without a value.
func TestSecretThatIsNotTaken(t *testing.T) {
	s := withSources(t, oneSource)
	s.write("files/db/A", "1")
	s.start()
	s.holds("db", 1, "1")
	s.write("files/db/tls crt", "hunter2")
	if text := s.until("SecretNotTaken", "db"); !strings.Contains(text, "files/db/tls crt") || strings.Contains(text, "hunter2") {
		t.Errorf("the event says %s", text)
	}
	s.holds("db", 1, "1")
	if is, err := s.DescribeSecret("dev", "db"); err != nil || !strings.Contains(is.GetSecret().GetNotTaken(), "files/db/tls crt") {
		t.Errorf("it is told of as %v, %v", is, err)
	}
	s.remove("files/db/tls crt")
	s.write("files/db/A", "2")
	s.until("SecretTaken", "db")
	s.holds("db", 2, "2")
	if is, err := s.DescribeSecret("dev", "db"); err != nil || is.GetSecret().GetNotTaken() != "" {
		t.Errorf("once it is mended it is told of as %v, %v", is, err)
	}
	s.write("files/new/tls crt", "hunter2")
	s.until("SecretNotTaken", "new")
	if _, err := s.DescribeSecret("dev", "new"); err == nil || !strings.Contains(err.Error(), "what there is of it is not taken: source ") {
		t.Errorf("one that never was taken: %v", err)
	}
}

// The node's identity must not get into a container, whatever is configured.
func TestIdentityIsNoSecret(t *testing.T) {
	s := withSources(t, oneSource)
	s.write("files/purser-identity", "AGE-SECRET-KEY-1")
	s.write("files/A", "1")
	s.start()
	s.holds("A", 1, "1")
	if len(s.Secrets("")) != 1 {
		t.Errorf("secrets are %v", s.Secrets(""))
	}
}

// Every version is in the audit trail before it is there, as one that is set is.
func TestSourcesAreRecorded(t *testing.T) {
	s := holding(t, "db", "other")
	s.remove("files/db.env")
	s.until("SecretDeleted", "db")
	s.stop()
	s.start()                      // and nothing is recorded of what is as it was
	s.write("files/zz.env", "A=1") // which is looked at last
	s.holds("zz", 1, "1")
	s.quiet()
	count := map[string]int{}
	for r, err := range s.audit.Read(t.Context(), audit.Query{Last: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Secrets) == 1 && r.Caller == nil {
			count[string(r.Action)+" "+string(r.Outcome)+" "+r.Secrets[0].Name+" "+r.Why]++
		}
	}
	for _, want := range []string{
		"set begun db from source files", "set done db from source files", "set done other from source files", "set done zz from source files",
		"delete begun db gone from source files", "delete done db gone from source files",
	} {
		if count[want] != 1 {
			t.Errorf("%d records of %q: %v", count[want], want, count)
		}
	}
	for what := range count {
		if strings.Contains(what, string(audit.Unchanged)) {
			t.Errorf("a record of %q", what)
		}
	}
}

// Files named as programs want them are keys, by a rule or as the source says.
func TestKeysAreRenamed(t *testing.T) {
	s := withSources(t, oneSource+"rename = {\"tls.key\" = \"A\"}\n")
	s.write("files/tls/tls.crt", "certificate")
	s.write("files/tls/tls.key", "hunter2")
	s.start()
	s.holds("tls", 1, "hunter2")
	if text := s.until("SecretSet", "tls"); text != "version 1, keys A, tls_crt, from source files" {
		t.Errorf("the event says %s", text)
	}
}

// A content that was there before is a version of its own; one that is back before anybody
// has looked is none.
func TestOldContentIsANewVersion(t *testing.T) {
	s := holding(t, "db")
	s.write("files/db.env", "A=2")
	s.holds("db", 2, "2")
	s.stop()
	s.write("files/db.env", "A=1")
	s.start()
	s.holds("db", 3, "1")
	s.stop()
	s.write("files/db.env", "A=2")
	s.write("files/db.env", "A=1")
	s.write("files/zz.env", "A=1") // which is looked at last
	s.start()
	s.holds("zz", 1, "1")
	s.holds("db", 3, "1")
}

// A secret that two sources have goes over to the other when the first has it no more.
func TestSecretThatAppearsInASecondSource(t *testing.T) {
	s := withSources(t, oneSource+"[sources.more]\ntype = \"dir\"\npath = \"DIR/more\"\nenvironment = \"dev\"\n")
	s.write("files/db.env", "A=1")
	s.write("files/x.env", "A=1")
	s.write("more/y.env", "A=1")
	s.start()
	s.holds("db", 1, "1")
	s.holds("y", 1, "1")
	s.write("more/db.env", "A=2")
	s.until("SecretConflict", "db")
	s.write("files/db.env", "A=3") // its source goes on to have it
	s.eventually(func() bool {
		got, err := s.secrets.Get(t.Context(), "dev", "db", 2)
		return err == nil && got.Version == 2
	})
	if _, err := s.secrets.Get(t.Context(), "dev", "db", 0); !errors.As(err, new(*store.ConflictError)) {
		t.Errorf("got %v", err)
	}
	for range 7 { // and so it is not tried again soon
		tried := s.bell.listen()
		s.origins["more"].mirror.Look(source.Name{Environment: "dev", Secret: "db"})
		<-tried
	}
	s.remove("files/db.env")
	removed := time.Now()
	s.holds("db", 3, "2")
	if took := time.Since(removed); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	described, err := s.DescribeSecret("dev", "db")
	if err != nil || described.GetSecret().GetSource() != "more" {
		t.Errorf("got %v, %v", described, err)
	}
}

// What a source has is for its environment, and is mounted nowhere.
func TestSourcesAreNotMounted(t *testing.T) {
	s := withSources(t, "allowed_roots = [\"DIR\"]\n"+oneSource)
	s.start()
	if forbidden := s.runtimeConfig().Forbidden; !slices.Contains(forbidden, filepath.Join(s.dir, "files")) {
		t.Errorf("forbidden are %v", forbidden)
	}
}
