package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/purserd/purser/agent/capacity"
	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/feed"
	"github.com/purserd/purser/agent/publish"
	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/version"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/cni"
	"github.com/purserd/purser/runtime/registry"
	"github.com/purserd/purser/runtime/volumes"
)

// eventsKept is how many events a reader can look back.
const eventsKept = 4096

// Agent keeps the workloads of one node.
type Agent struct {
	cfg    *config.Config
	log    *slog.Logger
	build  version.Info
	db     *state.DB
	nodeID string
	// boot is the boot of the node that this agent runs in.
	boot    string
	secrets *store.Store
	origins map[string]*origin // what else secrets come from
	audit   *auditor
	copies  *inject.Copies
	// secretChanges tells versions of secrets from each other.
	secretChanges *inject.Changes
	rotator       *rotator
	// learnt is what is known of versions of secrets. It is in the database before it is
	// set, under writing.
	learnt  watched[rotate.Book]
	volumes *volumes.Store
	runtime *runtime.Runtime
	metrics *metrics.Metrics
	// forwarder has the node's published ports, and publisher tells it where they lead.
	forwarder *forwarder
	publisher *publish.Publisher
	events    *feed.Log[*purserv1.Event]
	changes   *feed.Log[Change]
	since     time.Time

	oomKills oomKills

	// writing serialises what changes what is wanted, so that a request sees
	// all that the one before it did.
	writing sync.Mutex
	// ending: nothing is accepted any more, and all is stopped. Set under writing.
	ending atomic.Bool
	// drain is nil unless the node is drained. It is in the database before it takes
	// effect, and set under writing; what it points to is never changed.
	drain watched[*statev1.Drain]
	// capacity is what there is for workloads to ask for.
	capacity capacity.Node

	pulls    pulls
	imageUse imageUse
	// removals counts the images that were removed.
	removals atomic.Uint64
	// imagesDue, of capacity 1, asks for a look at the images' disk.
	imagesDue chan struct{}
	// gate is closed until the node's containers are known.
	gate gate
	// unpruned are secrets to be pruned once it is open, and how often that was noted; noted
	// is how far the secret store has come by the database. Both are guarded by writing.
	unpruned map[[2]string]int
	noted    uint64
	// versionsDue, of capacity 1, asks for what follows new versions of secrets.
	versionsDue  chan struct{}
	lossReported bool
	background   sync.WaitGroup // the pulls
	closing      context.Context
	close        context.CancelFunc

	mu        sync.RWMutex
	workloads map[string]*workload
	running   sync.WaitGroup  // the supervisors
	base      context.Context // theirs; set by Run
	started   bool
}

// Open opens the node's state. It needs neither root nor containerd.
func Open(cfg *config.Config, log *slog.Logger) (*Agent, error) {
	if err := makeDirs(cfg); err != nil {
		return nil, err
	}
	db, err := state.Open(filepath.Join(cfg.StateDir, "state.db"))
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, log: log, build: version.Get(), db: db,
		events:    feed.New[*purserv1.Event](eventsKept),
		changes:   feed.New[Change](eventsKept),
		workloads: map[string]*workload{},
		since:     time.Now(),
		imagesDue: make(chan struct{}, 1),

		versionsDue: make(chan struct{}, 1),
	}
	a.closing, a.close = context.WithCancel(context.Background())
	if a.capacity, err = findCapacity(cfg.Capacity, cfg.CgroupParent); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return a, nil
}

// open opens all but the database.
func (a *Agent) open() error {
	keys, err := openKeys(a.cfg)
	if err != nil {
		return err
	}
	// Not of the database, so that a node that lost it knows its containers.
	a.nodeID = keys.NodeID()
	if a.secrets, err = a.openSecrets(keys); err != nil {
		return err
	}
	if a.boot, err = runtime.Boot(); err != nil {
		return errors.Join(err, a.secrets.Close())
	}
	a.copies = inject.NewCopies(a.secrets)
	a.secretChanges = inject.NewChanges(a.secrets)
	learnt, err := a.db.Rotation()
	if err != nil {
		return errors.Join(fmt.Errorf("reading what is known of versions of secrets: %w", err), a.secrets.Close())
	}
	a.learnt.set(rotate.BookOf(learnt))
	a.rotator = newRotator(a)
	a.openSources()
	if a.volumes, err = volumes.Open(filepath.Join(a.cfg.StateDir, "volumes")); err != nil {
		return errors.Join(err, a.secrets.Close())
	}
	a.warnOfJournal()
	a.metrics = metrics.New(a.build, a, metrics.Labels{
		AuditActions: auditActions(), ExitCauses: supervise.Causes, LeakKinds: runtime.LeakKinds, Resources: capacity.Names[:],
		NetworkOperations: cni.Operations, NetworkResults: cni.Results,
	})
	if err := a.openAudit(keys); err != nil {
		return errors.Join(err, a.secrets.Close())
	}
	if a.runtime, err = runtime.New(a.runtimeConfig()); err != nil {
		return errors.Join(err, a.audit.Close(), a.secrets.Close())
	}
	if a.forwarder, err = newForwarder(a.cfg.RunDir, a.forwarderRestarted, a.log); err != nil {
		return errors.Join(err, a.runtime.Close(), a.audit.Close(), a.secrets.Close())
	}
	a.publisher = publish.New(publish.Options{Forwarder: a.forwarder, Right: a.rightFor, Trouble: a.portTrouble})
	if err := a.load(); err != nil {
		return errors.Join(err, a.runtime.Close(), a.audit.Close(), a.secrets.Close())
	}
	a.reportLosses()
	return nil
}

func makeDirs(cfg *config.Config) error {
	for _, dir := range []string{cfg.StateDir, cfg.RunDir, filepath.Dir(cfg.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the agent's directories: %w", err)
		}
	}
	return linkLogs(cfg)
}

// openKeys prefers an identity handed over by systemd to one in a file.
func openKeys(cfg *config.Config) (*keyring.Keyring, error) {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		path := filepath.Join(dir, "purser-identity")
		if _, err := os.Stat(path); err == nil {
			return keyring.OpenCredential(path)
		}
	}
	if err := notLost(cfg); err != nil {
		return nil, err
	}
	return keyring.Open(cfg.Secrets.Identity)
}

// notLost keeps a new identity from being made where there are secrets that only
// the old one opens.
func notLost(cfg *config.Config) error {
	if _, err := os.Lstat(cfg.Secrets.Identity); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := filepath.Join(cfg.StateDir, "secrets")
	if sealed, err := os.ReadDir(dir); err == nil && len(sealed) > 0 {
		return fmt.Errorf("the node's identity %s is gone, and %s holds secrets that only it opens: put it back, or move the directory away to begin without them", cfg.Secrets.Identity, dir)
	}
	return nil
}

func (a *Agent) openSecrets(keys *keyring.Keyring) (*store.Store, error) {
	seen, err := a.db.SecretsSequence()
	if err != nil {
		return nil, fmt.Errorf("reading the state of the secret store: %w", err)
	}
	return store.Open(filepath.Join(a.cfg.StateDir, "secrets"), keys, store.Options{Recipients: a.cfg.Secrets.Recipients, MinSequence: seen, Apart: burst})
}

func (a *Agent) runtimeConfig() runtime.Config {
	runtimes := map[string]runtime.RuntimeConfig{}
	for name, r := range a.cfg.Runtimes {
		runtimes[name] = runtime.RuntimeConfig{Path: r.Path, Options: r.Options}
	}
	return runtime.Config{
		Address:      a.cfg.Containerd.Address,
		Namespace:    a.cfg.Containerd.Namespace,
		Snapshotter:  a.cfg.Containerd.Snapshotter,
		ShareShims:   a.cfg.Containerd.ShimSharing == config.ShareApp,
		Node:         a.nodeID,
		RunDir:       a.cfg.RunDir,
		PrivateRamfs: a.cfg.PrivateRamfs,
		AllowSwap:    a.cfg.AllowSwap,
		Wrapper:      a.cfg.Wrapper,
		Observe:      a.metrics.Injected,
		RootDir:      filepath.Join(a.cfg.StateDir, "rootfs"),
		LogDir:       filepath.Join(a.cfg.StateDir, logDir),
		LogLimits:    a.logLimits(),
		LogJournald:  a.cfg.Logs.Journald,

		LogHelperRestarted: a.metrics.LogHelperRestarted,
		ShimHangs:          a.shimHangs,

		CgroupParent:   a.cfg.CgroupParent,
		Runtimes:       runtimes,
		DefaultRuntime: a.cfg.DefaultRuntime,
		AllowedRoots:   a.cfg.AllowedRoots,
		CDISpecDirs:    a.cfg.CDISpecDirs,
		VolumePath:     a.volumePath,
		Forbidden:      append(a.sourcePaths(), a.cfg.StateDir, a.cfg.RunDir, filepath.Dir(a.cfg.Containerd.Address)),
		Network:        a.networkConfig(),
		Registry:       registry.Config{CertsDir: a.cfg.Images.CertsDir, DockerConfig: a.cfg.Images.DockerConfig},
		Logger:         a.log,
	}
}

// load makes a supervisor for each workload on record.
func (a *Agent) load() error {
	if err := a.loadDrain(); err != nil {
		return err
	}
	records, err := a.db.Workloads()
	if err != nil {
		return fmt.Errorf("reading the workloads on record: %w", err)
	}
	for _, r := range records {
		a.add(newWorkload(a, r, statusOf(r)))
	}
	return nil
}

// statusOf is the status on record. One that is not there was damaged: a service is
// then started, and a job, which may have run, is not.
func statusOf(r *statev1.Workload) supervise.Status {
	if r.GetStatus().GetState() == "" && launchspec.IsJob(r.GetSpec()) {
		return supervise.Status{State: supervise.Failed, Reason: "what became of it was lost with its record", Run: runOf(r), Since: time.Now()}
	}
	return supervise.FromRecord(r.GetStatus())
}

// Run drives the workloads until ctx ends; their containers go on. It may be
// called once.
func (a *Agent) Run(ctx context.Context) {
	a.mu.Lock()
	a.base, a.started = ctx, true
	for _, w := range a.workloads {
		a.drive(w)
	}
	a.mu.Unlock()
	a.running.Go(func() { a.publishAll(ctx) })
	a.running.Go(func() { a.driveDrain(ctx) })
	a.running.Go(func() { a.tryRuntimes(ctx) })
	a.running.Go(func() { a.reconcile(ctx) })
	a.running.Go(func() { a.rotator.run(ctx) })
	a.running.Go(func() { a.sweepVolumes(ctx) })
	a.running.Go(func() { a.sweepLeaks(ctx) })
	a.running.Go(func() { a.keepImages(ctx) })
	a.running.Go(func() { a.runSources(ctx) })
	a.running.Go(func() { a.keepSecrets(ctx) })
	<-ctx.Done()
	a.running.Wait()
}

// add puts a workload among those that are kept, and drives it if Run has begun.
func (a *Agent) add(w *workload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.workloads[w.key] = w
	if a.started {
		a.drive(w)
	}
}

// drive runs a workload's supervisor. The caller holds mu.
func (a *Agent) drive(w *workload) {
	ctx := a.base
	a.running.Go(func() {
		w.supervisor.Run(ctx)
		if v, _ := w.supervisor.View(); v.Gone {
			a.forget(w)
		}
	})
}

// forget drops a workload whose record is gone.
func (a *Agent) forget(w *workload) {
	a.mu.Lock()
	if a.workloads[w.key] == w {
		delete(a.workloads, w.key)
	}
	a.mu.Unlock()
	w.removeLogs()
	a.releasePins(w.environment(), w.record().GetPins())
}

// Pause stops every container, all at once, and leaves what is wanted as it
// is: the next agent brings the workloads back. Requests that would change what
// is wanted are refused from then on.
func (a *Agent) Pause(ctx context.Context) error {
	a.writing.Lock()
	a.giveUpTrials()
	a.ending.Store(true)
	a.writing.Unlock()
	a.wishAnew()
	for _, w := range a.all("", "") {
		if _, err := w.supervisor.WaitFor(ctx, emptied); err != nil {
			return fmt.Errorf("waiting for %s to stop: %w", w.id(), err)
		}
	}
	return a.runtime.Disband(ctx)
}

// Close ends what Open began, after Run has returned.
func (a *Agent) Close() error {
	a.close()
	a.background.Wait()
	a.publisher.Close()
	a.writing.Lock()
	noted := a.noteSequence()
	a.writing.Unlock()
	return errors.Join(noted, a.forwarder.close(), a.runtime.Close(), a.secrets.Close(), a.audit.Close(), a.db.Close())
}
