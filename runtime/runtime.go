package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/dialer"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/purserd/purser/runtime/cni"
	"github.com/purserd/purser/runtime/companion"
	"github.com/purserd/purser/runtime/devices"
	"github.com/purserd/purser/runtime/handover"
	"github.com/purserd/purser/runtime/handover/protocol"
	"github.com/purserd/purser/runtime/loghelper"
	"github.com/purserd/purser/runtime/logs"
	"github.com/purserd/purser/runtime/private"
	"github.com/purserd/purser/runtime/registry"
)

// Config says which containerd to use and how its containers are made.
type Config struct {
	// Address is the path of containerd's socket.
	Address string
	// Namespace is the containerd namespace that everything lives in.
	Namespace string
	// Snapshotter is containerd's plugin for root file systems. When empty,
	// overlayfs, or native where overlayfs does not work.
	Snapshotter string
	// Node names this node on its containers; others' are never touched.
	Node string
	// RunDir holds FIFOs and generated files of containers. They must not
	// survive a reboot.
	RunDir string
	// RootDir holds the writable layers of containers' root file systems, where
	// they can be kept apart from containerd. When empty, containerd keeps them.
	RootDir string
	// PrivateRamfs mounts ramfs on the private directory even where tmpfs would do.
	PrivateRamfs bool
	// AllowSwap goes on where OCI runtimes cannot be kept out of swap space.
	AllowSwap bool
	// Wrapper is the path of purser-oci. When empty, the program of that name
	// beside this process's own executable.
	Wrapper string
	// Observe, if not nil, is told of the result of each request of an OCI runtime
	// for what containerd must not see: one of handover.Results.
	Observe func(result string)
	// LogDir holds what containers wrote.
	LogDir string
	// LogLimits bound what is kept of one container's output.
	LogLimits logs.Limits
	// LogJournald sends what containers write to systemd's journal, too.
	LogJournald bool
	// LogHelper is the command that starts the log helper, without its arguments; see
	// [companion.Options]. When empty, this process's own executable with log-helper.
	LogHelper []string
	// LogHelperRestarted, if not nil, is called when a log helper had died and another
	// one has been started.
	LogHelperRestarted func()
	// ShimHangs, if not nil, is told of a container whose shim does not answer, and what
	// was done about it.
	ShimHangs func(id, message string)
	// CgroupParent is the cgroup under which each container gets its own;
	// /purser when empty.
	CgroupParent string
	// ShareShims has the instances of an app share one shim, whose death takes them all.
	ShareShims bool
	// Runtimes are the OCI runtimes that specs may name; runc alone when empty.
	Runtimes map[string]RuntimeConfig
	// DefaultRuntime serves specs that name none: runc, or the only one, when empty.
	DefaultRuntime string
	// AllowedRoots are the directories that specs may mount from.
	AllowedRoots []string
	// CDISpecDirs have the CDI specifications of the node's devices, a later one before an
	// earlier. When empty, there are no devices.
	CDISpecDirs []string
	// VolumePath is where on the node a volume of an environment is; its error says
	// what there is instead. When nil, there are no volumes.
	VolumePath func(environment, name string) (string, error)
	// Forbidden are directories and sockets that no spec may mount, whatever
	// AllowedRoots says. RunDir, LogDir and containerd's own are always among them.
	Forbidden []string
	// Network is the containers', for those on a bridge; its RunDir is set by New. When nil,
	// there is none.
	Network *cni.Config
	// Registry says how registries are reached.
	Registry registry.Config
	// Logger gets what no caller can be told; slog.Default when nil.
	Logger *slog.Logger
}

// Runtime makes and looks after the containers of one node. Its methods may be
// called by many goroutines.
type Runtime struct {
	cfg      Config
	client   *client.Client
	logs     *logs.Store
	log      *slog.Logger
	helper   *loghelper.Client
	handover *handover.Server
	locked   *os.File // the run directory's lock
	// execPrefix begins the names of the commands that this process runs.
	execPrefix string
	// unswapped is where OCI runtimes are that have been given secrets.
	unswapped private.Cgroup
	images    imageCache
	snapshot  snapshotterChoice
	tried     byExecutable[error]
	exits     exits
	leased    locks // of pulls
	shims     shims
	anchors   anchors
	turns     turns        // of calls to shared shims
	network   *cni.Network // nil for none
	devices   *devices.Node
	limits    atomic.Bool // the kernel is known to limit what containers reach
	versions  byExecutable[string]
	// connections bounds the layers that come from registries at the same time.
	connections *semaphore.Weighted

	// detached are the commands that their clients let run on.
	detached sync.WaitGroup
	closing  chan struct{} // closed with the runtime

	mu      sync.Mutex
	streams map[string]*streams // of containers
	closed  bool
}

// runtimesCgroup begins the name of a cgroup beside the containers' own, which is no
// container's ID; the rest is the node's.
const runtimesCgroup = "_runtimes-"

// keepUnswapped makes the cgroup of the runtimes again if somebody has removed it.
func (r *Runtime) keepUnswapped() error {
	if join := r.unswapped.Join; join == "" || exists(join) {
		return nil
	}
	_, err := r.cfg.makeUnswapped()
	return err
}

func (c Config) makeUnswapped() (private.Cgroup, error) {
	return private.MakeCgroup(filepath.Join(c.CgroupParent, runtimesCgroup+c.Node), c.AllowSwap, c.Logger)
}

// New returns a Runtime for cfg. It makes the directories and checks what it
// can without containerd, which need not be there yet.
func New(cfg Config) (*Runtime, error) {
	if cfg.Address == "" || cfg.Namespace == "" || cfg.Node == "" {
		return nil, errors.New("the runtime needs containerd's address, a namespace and the node's name")
	}
	cfg, err := withDefaults(cfg)
	if err != nil {
		return nil, err
	}
	locked, err := cfg.lockRunDir()
	if err != nil {
		return nil, err
	}
	r, err := open(cfg)
	if err != nil {
		return nil, errors.Join(err, locked.Close())
	}
	r.locked = locked
	if err := errors.Join(r.reinstall(), r.openNetwork()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// open opens all of a Runtime but the lock of its run directory.
func open(cfg Config) (*Runtime, error) {
	if err := os.MkdirAll(cfg.instancesDir(), 0o711); err != nil {
		return nil, fmt.Errorf("making the run directory: %w", err)
	}
	if err := cfg.sweepMounts(); err != nil {
		return nil, fmt.Errorf("cleaning the run directory: %w", err)
	}
	if err := cfg.sweepTrials(); err != nil {
		// A runtime that has outlived its agent may be at work there. Sweeps come again.
		cfg.Logger.Warn("cannot remove yet what an earlier agent has tried out", "error", err)
	}
	if err := warnOfCores(cfg.Logger); err != nil {
		return nil, err
	}
	store, err := logs.Open(cfg.LogDir)
	if err != nil {
		return nil, err
	}
	if err := private.Mount(cfg.privateDir(), private.Options{Ramfs: cfg.PrivateRamfs}); err != nil {
		return nil, err
	}
	if err := cfg.sweepSecretFiles(); err != nil {
		return nil, err
	}
	unswapped, err := cfg.makeUnswapped()
	if err != nil {
		return nil, err
	}
	c, err := connect(cfg)
	if err != nil {
		unswapped.Remove()
		return nil, err
	}
	h, err := handover.Listen(handover.Options{Dir: cfg.privateDir(), Log: cfg.Logger, Observe: cfg.Observe, Join: unswapped.Join})
	if err != nil {
		unswapped.Remove()
		return nil, errors.Join(err, c.Close())
	}
	helper, err := loghelper.Start(loghelper.Options{AllowSwap: cfg.AllowSwap, Options: companion.Options{
		Dir: cfg.helperDir(), Command: cfg.LogHelper, Log: cfg.Logger, Restarted: cfg.LogHelperRestarted,
	}})
	if err != nil {
		unswapped.Remove()
		return nil, errors.Join(err, h.Close(), c.Close())
	}
	r := &Runtime{
		cfg:         cfg,
		execPrefix:  newExecPrefix(),
		helper:      helper,
		devices:     devices.Open(cfg.CDISpecDirs, cfg.Logger),
		client:      c,
		connections: semaphore.NewWeighted(connections),
		handover:    h,
		unswapped:   unswapped,
		logs:        store,
		log:         cfg.Logger,
		closing:     make(chan struct{}),
		streams:     make(map[string]*streams),
	}
	r.shims = ownShims{}
	if cfg.ShareShims {
		r.shims = sharedShims{r}
	}
	return r, nil
}

// warnOfCores tells when containers cannot have the limit of core dumps that keeps
// their environment from a handler behind a pipe.
func warnOfCores(log *slog.Logger) error {
	host, err := readHost()
	if err != nil {
		return err
	}
	if host.MaxCore == 0 {
		log.Warn("the hard limit of core dumps is 0 and cannot be raised: a handler behind a pipe (core_pattern) may get a container's memory, secrets included; start the agent with a limit of 1 or more (systemd: LimitCORE=infinity)")
	}
	return nil
}

// reinstall puts the wrapper in front of the runtimes, for containers that are there.
// A runtime that cannot be found is for those to know who use it.
func (r *Runtime) reinstall() error {
	for name, c := range r.cfg.Runtimes {
		if path, err := c.find(name); err == nil {
			if _, err := r.handover.Install(name, r.cfg.Wrapper, path); err != nil {
				return err
			}
		}
	}
	return r.handover.Reinstall(r.cfg.Wrapper)
}

func withDefaults(cfg Config) (Config, error) {
	if cfg.CgroupParent == "" {
		cfg.CgroupParent = "/purser"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if len(cfg.Runtimes) == 0 {
		cfg.Runtimes = map[string]RuntimeConfig{"runc": {}}
	}
	var err error
	// Links in containers' specs and paths that the shim opens must not depend
	// on the working directory.
	if cfg.RunDir, err = runDirectory(cfg.RunDir); err != nil {
		return cfg, fmt.Errorf("resolving the run directory: %w", err)
	}
	if cfg.LogDir, err = filepath.Abs(cfg.LogDir); err != nil {
		return cfg, fmt.Errorf("resolving the log directory: %w", err)
	}
	if cfg.RootDir, err = rootDirectory(cfg.RootDir); err != nil {
		return cfg, fmt.Errorf("resolving the directory of writable layers: %w", err)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string) {}
	}
	if cfg.ShimHangs == nil {
		cfg.ShimHangs = func(id, message string) { cfg.Logger.Warn(message, "instance", id) }
	}
	if len(cfg.LogHelper) == 0 {
		self, err := os.Executable()
		if err != nil {
			return cfg, fmt.Errorf("looking for the log helper: %w", err)
		}
		cfg.LogHelper = []string{self, "log-helper"}
	}
	if cfg.Wrapper, err = findWrapper(cfg.Wrapper); err != nil {
		return cfg, err
	}
	if cfg.DefaultRuntime, err = defaultRuntime(cfg); err != nil {
		return cfg, err
	}
	return cfg, checkRuntimes(cfg.Runtimes)
}

// runDirectory makes the directory and resolves links in its path: the runtimes and
// the kernel name what is in it without them.
func runDirectory(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(path, 0o711); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// helperDir is where the log helper keeps what it needs.
func (c Config) helperDir() string { return filepath.Join(c.privateDir(), "logs") }

// privateDir is where memory is mounted that is never swapped, for what must not
// reach a disk.
func (c Config) privateDir() string { return filepath.Join(c.RunDir, "private") }

// CheckPrivate fails unless the private directory is on memory that is never swapped,
// without which no container with secrets can be made.
func (r *Runtime) CheckPrivate() error { return private.Check(r.cfg.privateDir()) }

// findWrapper returns the absolute path of purser-oci.
func findWrapper(path string) (string, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("looking for purser-oci: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), protocol.Wrapper)
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("purser-oci, which gives containers their secrets, cannot be executed; it belongs beside purser, or where wrapper in the configuration says: %w", err)
	}
	return filepath.Abs(found)
}

// connect returns a client that dials on first use and again after a loss.
func connect(cfg Config) (*client.Client, error) {
	// containerd's restart takes seconds, so a pause of grpc's usual two
	// minutes would be most of an outage.
	retry := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	c, err := client.New(cfg.Address,
		client.WithDefaultNamespace(cfg.Namespace),
		client.WithDefaultRuntime(shimName),
		client.WithDialOpts([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 5 * time.Second}),
			grpc.WithContextDialer(dialer.ContextDialer),
		}))
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to containerd at %s: %w", cfg.Address, err)
	}
	return c, nil
}

// Logs is the store of what containers wrote. It outlives Delete.
func (r *Runtime) Logs() *logs.Store { return r.logs }

// LogCounters are what has been done to output so far, also under earlier agents.
func (r *Runtime) LogCounters() loghelper.Counters { return r.helper.Counters() }

// Redacted adds to the redactions what was replaced in output that is not stored.
func (r *Runtime) Redacted(n uint64) { r.helper.Redacted(n) }

// Close ends the connections. Containers run on, and their output is stored.
func (r *Runtime) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.closing)
	}
	open := r.streams
	r.streams = map[string]*streams{}
	r.mu.Unlock()
	r.detached.Wait()
	var err error
	for _, s := range open {
		err = errors.Join(err, s.closeStdin())
	}
	err = errors.Join(err, r.closeNetwork(), r.helper.Close(), r.logs.Close(), r.handover.Close(), r.client.Close())
	r.unswapped.Remove()
	r.exits.close()
	return errors.Join(err, r.locked.Close())
}

// Status is the state of the connection to containerd.
type Status struct {
	Connected bool
	// Version of containerd; empty when not connected.
	Version string
	// Err says why it is not connected, or cannot be used.
	Err error
}

// Status asks containerd for its version, waiting two seconds at most.
func (r *Runtime) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(r.ctx(ctx), 2*time.Second)
	defer cancel()
	// Not client.Version, which waits for a connection instead of failing.
	v, err := r.client.VersionService().Version(ctx, &emptypb.Empty{})
	if err = native(err); errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: it does not answer", errdefs.ErrUnavailable)
	}
	if err != nil {
		return Status{Err: r.wrap(err, "asking for the version")}
	}
	_, err = r.snapshotter(ctx)
	return Status{Connected: true, Version: v.Version, Err: r.wrap(err, "looking for the snapshotter")}
}

// ctx adds the containerd namespace, which some of the client's helpers take
// from the context.
func (r *Runtime) ctx(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, r.cfg.Namespace)
}
