// Package config reads the agent's configuration file.
//
// The file is TOML and read strictly: an unknown key is an error that names
// the line. Every key has a default, so that no file at all is a valid
// configuration; [Default] is the one place where defaults stand.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Path is where the daemon's configuration lies unless it is told otherwise.
const Path = "/etc/purser/config.toml"

// Config is what /etc/purser/config.toml says.
type Config struct {
	// StateDir keeps what must survive a reboot: workloads, secrets, logs.
	StateDir string `toml:"state_dir"`
	// RunDir keeps what must not.
	RunDir string `toml:"run_dir"`
	// PrivateRamfs mounts ramfs on the private directory in RunDir even where the
	// kernel has tmpfs with noswap.
	PrivateRamfs bool `toml:"private_ramfs"`
	// AllowSwap lets the agent start where its memory can be swapped.
	AllowSwap bool `toml:"allow_swap"`
	// StrictUIDs refuses containers that hold secrets under the user ID of an account
	// of the host's.
	StrictUIDs bool `toml:"strict_uids"`
	// Wrapper is the path of purser-oci; beside purser when empty.
	Wrapper string `toml:"wrapper"`
	// Socket is the path of the API's unix socket.
	Socket string `toml:"socket"`
	// NodeName is the name shown to people; the host's name when empty.
	NodeName string `toml:"node_name"`
	// CgroupParent is the cgroup under which every container gets its own.
	CgroupParent string `toml:"cgroup_parent"`
	// AllowedRoots are the directories from which a spec may mount.
	AllowedRoots []string `toml:"allowed_roots"`
	// CDISpecDirs have the specifications of the node's devices; a later one goes before an
	// earlier.
	CDISpecDirs []string `toml:"cdi_spec_dirs"`
	// DefaultRuntime serves specs that name none: runc, or the only one configured.
	DefaultRuntime string `toml:"default_runtime"`

	Containerd Containerd         `toml:"containerd"`
	Capacity   Capacity           `toml:"capacity"`
	Images     Images             `toml:"images"`
	Logs       Logs               `toml:"logs"`
	Sweep      Sweep              `toml:"sweep"`
	Metrics    Metrics            `toml:"metrics"`
	Network    Network            `toml:"network"`
	Secrets    Secrets            `toml:"secrets"`
	Rotation   Rotation           `toml:"rotation"`
	Audit      Audit              `toml:"audit"`
	Sources    map[string]Source  `toml:"sources"`
	Runtimes   map[string]Runtime `toml:"runtimes"`
}

// Containerd says which containerd to use, and how.
type Containerd struct {
	Address     string `toml:"address"`
	Namespace   string `toml:"namespace"`
	Snapshotter string `toml:"snapshotter"`
	// ShimSharing says which containers are served by one shim, and end with it: none,
	// or the instances of an app.
	ShimSharing ShimSharing `toml:"shim_sharing"`
}

// ShimSharing is what containers have to have in common to share a shim.
type ShimSharing string

// What containers may share a shim for.
const (
	ShareNone ShimSharing = "none"
	ShareApp  ShimSharing = "app"
)

// Images says where images come from, and when they go.
type Images struct {
	// CertsDir has containerd's hosts.toml and certificates by registry. It may be
	// missing.
	CertsDir string `toml:"certs_dir"`
	// DockerConfig is docker's config.json with credentials of registries, which may be
	// missing; the user's when empty.
	DockerConfig string `toml:"docker_config"`
	// GCHigh and GCLow are percentages of the images' disk: when more than GCHigh is
	// used, images that nothing uses go until it is GCLow. GCHigh 100 keeps them all.
	GCHigh int `toml:"gc_high"`
	GCLow  int `toml:"gc_low"`
	// GCMinAge is for how long after its last use an image is kept in any case.
	GCMinAge Duration `toml:"gc_min_age"`
	// GCMaxAge is after how long without use an image goes however empty the disk is;
	// zero for never.
	GCMaxAge Duration `toml:"gc_max_age"`
	// GCImported lets images go, too, that were imported and cannot be pulled again.
	GCImported bool `toml:"gc_imported"`
}

// Logs says how much of what each instance writes is kept.
type Logs struct {
	// SegmentSize is the size of a file after which the next is begun.
	SegmentSize Size `toml:"segment_size"`
	// Segments is the number of files that are kept.
	Segments int `toml:"segments"`
	// Journald sends every line to systemd's journal, too.
	Journald bool `toml:"journald"`
}

// LogLink is the path of a link, beside the agent's socket, to the directory of its
// logs: by it they are found while the agent does not answer.
func LogLink(socket string) string { return socket + ".logs" }

// Duration is one in Go's syntax, as 1h30m.
type Duration time.Duration

// UnmarshalText reads a duration that is not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	got, err := time.ParseDuration(string(text))
	if err != nil || got < 0 {
		return fmt.Errorf("%q is not a duration such as 90s or 1h30m", text)
	}
	*d = Duration(got)
	return nil
}

// MarshalText writes it as it is read.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Sweep says how it is looked for what containers left that are gone.
type Sweep struct {
	// Period is how often; zero is never.
	Period Duration `toml:"period"`
}

// Metrics says where Prometheus finds the metrics.
type Metrics struct {
	// Address is host:port; port 0 picks a free one; empty serves none.
	Address string `toml:"address"`
	// SecretNames: whether metrics may name secrets.
	SecretNames bool `toml:"secret_names"`
}

// Secrets configures the embedded store.
type Secrets struct {
	// Identity is the file of the age identity that versions are sealed to.
	Identity string `toml:"identity"`
	// Recipients are further age recipients that can open every version.
	Recipients []string `toml:"recipients"`
	// KeepVersions is how many versions of a secret are kept at least.
	KeepVersions int `toml:"keep_versions"`
}

// Audit configures the audit trail.
type Audit struct {
	// FailClosed refuses to change a secret while that cannot be recorded.
	FailClosed bool `toml:"fail_closed"`
	// FileSize is about how large a file becomes, and Files how many are kept.
	FileSize Size `toml:"file_size"`
	Files    int  `toml:"files"`
}

// Size is a number of bytes, as 16Mi. It may be 0.
type Size int64

// UnmarshalText reads a quantity as launch specs have them.
func (s *Size) UnmarshalText(text []byte) error {
	q, err := resource.ParseQuantity(string(text))
	if err != nil || q.Sign() < 0 {
		return fmt.Errorf("%q is not a size such as 512Mi", text)
	}
	*s = Size(q.Value())
	return nil
}

// MarshalText writes it as it is read.
func (s Size) MarshalText() ([]byte, error) {
	return []byte(resource.NewQuantity(int64(s), resource.BinarySI).String()), nil
}

// Runtime is one OCI runtime.
type Runtime struct {
	// Path of its executable; looked up in PATH when it has no slash.
	Path string `toml:"path"`
	// Options are those of containerd's runc shim (containerd.runc.v1.Options).
	Options map[string]any `toml:"options"`
}

// Default returns the configuration of a node whose file is empty.
func Default() *Config {
	return &Config{
		StateDir:     "/var/lib/purser",
		RunDir:       "/run/purser",
		Socket:       "/run/purser/purser.sock",
		CgroupParent: "/purser",
		CDISpecDirs:  []string{"/etc/cdi", "/var/run/cdi"},
		Containerd: Containerd{
			Address:   "/run/containerd/containerd.sock",
			Namespace: "purser",

			ShimSharing: ShareNone,
		},
		Capacity: defaultCapacity,
		Images: Images{
			CertsDir: "/etc/containerd/certs.d",
			GCHigh:   85, GCLow: 80, GCMinAge: Duration(time.Hour),
		},
		Logs:    Logs{SegmentSize: 10 << 20, Segments: 5},
		Sweep:   Sweep{Period: Duration(5 * time.Minute)},
		Metrics: Metrics{Address: "127.0.0.1:9755", SecretNames: true},
		Network: defaultNetwork,
		Secrets: Secrets{KeepVersions: 10},

		Rotation: defaultRotation,

		Audit: Audit{FailClosed: true, FileSize: 16 << 20, Files: 16},
	}
}

// dockerConfig is where docker keeps the user's configuration. A daemon has no HOME.
func dockerConfig() string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root"
	}
	return filepath.Join(home, ".docker", "config.json")
}

// Load reads the file at path over the defaults. A file that is not there is
// an error unless path is [Path].
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == Path {
		data, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads data, from the file named, over the defaults.
func Parse(file string, data []byte) (*Config, error) {
	c := Default()
	return c, c.parse(file, data)
}

// Over reads the file at path over c.
func (c *Config) Over(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	return c.parse(path, data)
}

func (c *Config) parse(file string, data []byte) error {
	d := toml.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return decodeError(file, err)
	}
	if err := c.complete(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// decodeError names the line of each mistake; the library's own text does not.
func decodeError(file string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		var all []error
		for _, e := range unknown.Errors {
			row, col := e.Position()
			all = append(all, fmt.Errorf("%s:%d:%d: unknown key %s%s", file, row, col, strings.Join(e.Key(), "."), meant(e.Key())))
		}
		return errors.Join(all...)
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		row, col := wrong.Position()
		return fmt.Errorf("%s:%d:%d: %s", file, row, col, strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", file, err)
}

var (
	namePattern      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	namespacePattern = regexp.MustCompile(`^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$`)
)

// complete fills in what depends on other keys, and checks.
func (c *Config) complete() error {
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("node_name is not set and the host has no name: %w", err)
		}
		c.NodeName = host
	}
	if c.Secrets.Identity == "" {
		c.Secrets.Identity = filepath.Join(c.StateDir, "identity.age")
	}
	if c.Images.DockerConfig == "" {
		c.Images.DockerConfig = dockerConfig()
	}
	if len(c.Runtimes) == 0 {
		c.Runtimes = map[string]Runtime{"runc": {Path: "runc"}}
	}
	if c.DefaultRuntime == "" {
		c.DefaultRuntime = c.soleRuntime()
	}
	return errors.Join(c.checkPaths(), c.checkNames(), c.checkImages(), c.checkLogs(), c.checkSweep(), c.checkMetrics(), c.checkAudit(), c.checkSources(), c.Capacity.check(), c.Network.check(), c.Rotation.check())
}

// soleRuntime is the runtime to use when nothing says which.
func (c *Config) soleRuntime() string {
	if _, ok := c.Runtimes["runc"]; !ok && len(c.Runtimes) == 1 {
		for name := range c.Runtimes {
			return name
		}
	}
	return "runc"
}

func (c *Config) checkPaths() error {
	var errs []error
	absolute := func(key, path string) {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", key, path))
		}
	}
	absolute("state_dir", c.StateDir)
	absolute("run_dir", c.RunDir)
	absolute("socket", c.Socket)
	absolute("cgroup_parent", c.CgroupParent)
	absolute("secrets.identity", c.Secrets.Identity)
	absolute("containerd.address", c.Containerd.Address)
	absolute("images.certs_dir", c.Images.CertsDir)
	absolute("images.docker_config", c.Images.DockerConfig)
	for _, root := range c.AllowedRoots {
		absolute("allowed_roots", root)
	}
	for _, dir := range c.CDISpecDirs {
		absolute("cdi_spec_dirs", dir)
	}
	// sun_path holds 108 bytes with its closing NUL (unix(7)).
	if len(c.Socket) > 107 {
		errs = append(errs, fmt.Errorf("socket: the path has %d characters; a unix socket's has 107 at most", len(c.Socket)))
	}
	return errors.Join(errs...)
}

func (c *Config) checkNames() error {
	var errs []error
	if !namespacePattern.MatchString(c.Containerd.Namespace) {
		errs = append(errs, fmt.Errorf("containerd.namespace: %q is not a containerd namespace", c.Containerd.Namespace))
	}
	if s := c.Containerd.ShimSharing; s != ShareNone && s != ShareApp {
		errs = append(errs, fmt.Errorf("containerd.shim_sharing: %q is neither none nor app", s))
	}
	for name, r := range c.Runtimes {
		if !namePattern.MatchString(name) {
			errs = append(errs, fmt.Errorf("runtimes: %q is not a name (letters, digits, '.', '_', '-')", name))
		}
		if r.Path == "" {
			errs = append(errs, fmt.Errorf("runtimes.%s.path: missing; give the runtime's executable", name))
		}
	}
	if _, ok := c.Runtimes[c.DefaultRuntime]; !ok {
		errs = append(errs, fmt.Errorf("default_runtime: no [runtimes.%s] is configured", c.DefaultRuntime))
	}
	if c.Secrets.KeepVersions < 1 {
		errs = append(errs, errors.New("secrets.keep_versions: must be 1 or more"))
	}
	return errors.Join(errs...)
}

func (c *Config) checkImages() error {
	i := c.Images
	var errs []error
	if i.GCHigh < 1 || i.GCHigh > 100 {
		errs = append(errs, fmt.Errorf("images.gc_high: %d is not a percentage from 1 to 100", i.GCHigh))
	}
	if i.GCLow < 0 || i.GCLow > i.GCHigh {
		errs = append(errs, fmt.Errorf("images.gc_low: %d is not a percentage from 0 to gc_high, %d", i.GCLow, i.GCHigh))
	}
	if i.GCMaxAge > 0 && i.GCMaxAge < i.GCMinAge {
		errs = append(errs, fmt.Errorf("images.gc_max_age: %s is less than gc_min_age, %s", time.Duration(i.GCMaxAge), time.Duration(i.GCMinAge)))
	}
	return errors.Join(errs...)
}

// leastSegment is the least size of a segment: a few batches of output.
const leastSegment = 64 << 10

func (c *Config) checkLogs() error {
	var errs []error
	if c.Logs.SegmentSize < leastSegment {
		errs = append(errs, fmt.Errorf("logs.segment_size: %d bytes is less than 64Ki", c.Logs.SegmentSize))
	}
	if c.Logs.Segments < 1 {
		errs = append(errs, errors.New("logs.segments: must be 1 or more"))
	}
	return errors.Join(errs...)
}

// The least that is of use: a record may take some 10 KiB.
const leastAuditFile = 64 << 10

func (c *Config) checkAudit() error {
	var errs []error
	if c.Audit.FileSize < leastAuditFile || c.Audit.FileSize > 1<<30 {
		errs = append(errs, errors.New("audit.file_size: must be 64Ki to 1Gi"))
	}
	if c.Audit.Files < 2 || c.Audit.Files > 10000 {
		errs = append(errs, errors.New("audit.files: must be 2 to 10000"))
	}
	return errors.Join(errs...)
}

func (c *Config) checkSweep() error {
	if p := time.Duration(c.Sweep.Period); p > 0 && p < time.Second {
		return fmt.Errorf("sweep.period: %s is less than a second; 0s is never", p)
	}
	return nil
}

func (c *Config) checkMetrics() error {
	if c.Metrics.Address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Metrics.Address); err != nil {
		return fmt.Errorf("metrics.address: %q is not host:port", c.Metrics.Address)
	}
	return nil
}
