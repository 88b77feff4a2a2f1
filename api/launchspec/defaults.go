package launchspec

import (
	"io/fs"
	gopath "path"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// What an absent field means. docs/launch-spec.md holds the same table, and a
// test compares the two.
const (
	DefaultEnvironment   = "dev"
	DefaultKind          = KindService
	DefaultRestartPolicy = RestartAlways
	DefaultBackoffMin    = time.Second
	DefaultBackoffMax    = 60 * time.Second
	DefaultStopGrace     = 10 * time.Second
	DefaultProtocol      = ProtocolTCP
	DefaultPullPolicy    = PullIfNotPresent
	DefaultPids          = 512
	DefaultMountType     = MountBind
	DefaultTmpfsSize     = 64 << 20
	DefaultSecretEnv     = true
	DefaultSecretRedact  = true
	DefaultFileFormat    = FormatKeys
	DefaultFileMode      = 0o400

	// DefaultMinReady is that of a service without a ready probe; with one it is 0.
	DefaultMinReady = 10 * time.Second
	// DefaultToReady is what a new instance has beyond that to become ready.
	DefaultToReady        = time.Minute
	DefaultRotationSignal = "SIGHUP"

	DefaultProbePeriod   = 10 * time.Second
	DefaultProbeTimeout  = time.Second
	DefaultProbeFailures = 3
	// What starts is asked more often, for as long as three of the others' periods.
	DefaultStartupPeriod   = time.Second
	DefaultStartupFailures = 30
	DefaultProbeSuccesses  = 1
	DefaultProbePath       = "/"
	DefaultProbeScheme     = SchemeHTTP
)

// The values that string fields choose from.
const (
	KindService = "service"
	KindJob     = "job"

	RestartAlways    = "always"
	RestartOnFailure = "on_failure"
	RestartNever     = "never"

	NetworkNone   = "none"
	NetworkHost   = "host"
	NetworkBridge = "bridge"

	ProtocolTCP = "tcp"
	ProtocolUDP = "udp"

	StrategyRolling = "rolling"
	StrategyRestart = "restart"
	StrategyManual  = "manual"

	OnChangeRestart = "restart"
	OnChangeSignal  = "signal"
	OnChangeRefresh = "refresh"
	OnChangeIgnore  = "ignore"

	PullIfNotPresent = "if_not_present"
	PullAlways       = "always"
	PullNever        = "never"

	MountBind   = "bind"
	MountVolume = "volume"
	MountTmpfs  = "tmpfs"

	FormatKeys   = "keys"
	FormatJSON   = "json"
	FormatDotenv = "dotenv"

	SchemeHTTP  = "http"
	SchemeHTTPS = "https"
)

// Environment is the namespace of the workload and its secrets.
func Environment(s *purserv1.LaunchSpec) string {
	return stringOr(s.GetEnvironment(), DefaultEnvironment)
}

// ID identifies the workload within its environment: app/function unless given.
func ID(s *purserv1.LaunchSpec) string {
	return stringOr(s.GetId(), s.GetApp()+"/"+s.GetFunction())
}

// LabelOneOff marks a workload that runs a function once, for who waits for it:
// it carries the name of an app and is none of the app's functions.
const LabelOneOff = "purser.one-off"

// OneOff tells whether a workload is such a one.
func OneOff(s *purserv1.LaunchSpec) bool {
	return s.GetLabels()[LabelOneOff] != ""
}

// Kind is [KindService] or [KindJob].
func Kind(s *purserv1.LaunchSpec) string {
	return stringOr(s.GetKind(), DefaultKind)
}

// IsJob tells whether the workload runs to completion.
func IsJob(s *purserv1.LaunchSpec) bool {
	return Kind(s) == KindJob
}

// PullPolicy is when the image is pulled: [PullIfNotPresent], [PullAlways] (at each
// start of a container) or [PullNever].
func PullPolicy(s *purserv1.LaunchSpec) string {
	return stringOr(s.GetImage().GetPull(), DefaultPullPolicy)
}

// RestartPolicy is what happens when a service's container exits:
// [RestartAlways], [RestartOnFailure] or [RestartNever]. It has no meaning for
// a job, which has [Retries].
func RestartPolicy(s *purserv1.LaunchSpec) string {
	return stringOr(s.GetRestart().GetPolicy(), DefaultRestartPolicy)
}

// BackoffMin is the first pause between restarts, or between a job's attempts.
func BackoffMin(s *purserv1.LaunchSpec) time.Duration {
	return durationOr(s.GetRestart().GetBackoffMin(), DefaultBackoffMin)
}

// BackoffMax is the longest pause between restarts, or between a job's attempts.
func BackoffMax(s *purserv1.LaunchSpec) time.Duration {
	return durationOr(s.GetRestart().GetBackoffMax(), DefaultBackoffMax)
}

// StopSignal is the name or number of the signal that asks the container to
// end; empty means the image's StopSignal, else SIGTERM.
func StopSignal(s *purserv1.LaunchSpec) string {
	return s.GetStop().GetSignal()
}

// StopGrace is the time until SIGKILL, from the stop signal, or from the beginning of
// the command before it. It may be 0.
func StopGrace(s *purserv1.LaunchSpec) time.Duration {
	return durationOr(s.GetStop().GetGrace(), DefaultStopGrace)
}

// Timeout is the longest run of one attempt of a job; false without a limit.
func Timeout(s *purserv1.LaunchSpec) (time.Duration, bool) {
	return durationIfSet(s.GetTimeout())
}

// Retries is how often a job is tried again after its first attempt failed.
func Retries(s *purserv1.LaunchSpec) int {
	return int(s.GetRetries())
}

// TTL is how long a finished job is kept, which may be 0; false when it is
// kept until removed.
func TTL(s *purserv1.LaunchSpec) (time.Duration, bool) {
	return durationIfSet(s.GetTtlAfterFinished())
}

// Runtime is the name of the OCI runtime; empty means the node's default.
func Runtime(s *purserv1.LaunchSpec) string {
	return s.GetRuntime()
}

// CPU is the limit in cores; false without a limit.
func CPU(s *purserv1.LaunchSpec) (float64, bool) {
	return s.GetResources().GetCpu(), s.GetResources().GetCpu() > 0
}

// Memory is the limit in bytes; false without a limit.
func Memory(s *purserv1.LaunchSpec) (int64, bool) {
	n, err := parseQuantity(s.GetResources().GetMemory())
	return n, err == nil
}

// Pids is the limit of processes and threads.
func Pids(s *purserv1.LaunchSpec) int64 {
	if n := s.GetResources().GetPids(); n > 0 {
		return int64(n)
	}
	return DefaultPids
}

// MountType is [MountBind], [MountVolume] or [MountTmpfs].
func MountType(m *purserv1.Mount) string {
	return stringOr(m.GetType(), DefaultMountType)
}

// Volumes are the names of the volumes that a spec mounts.
func Volumes(s *purserv1.LaunchSpec) []string {
	var names []string
	for _, m := range s.GetMounts() {
		if MountType(m) == MountVolume {
			names = append(names, m.GetSource())
		}
	}
	return names
}

// MountSize is the size of a tmpfs in bytes.
func MountSize(m *purserv1.Mount) int64 {
	if n, err := parseQuantity(m.GetSize()); err == nil {
		return n
	}
	return DefaultTmpfsSize
}

// SecretEnv tells whether a secret's keys become environment variables.
func SecretEnv(ref *purserv1.SecretRef) bool {
	if ref.Env == nil {
		return DefaultSecretEnv
	}
	return ref.GetEnv()
}

// SecretRedact tells whether a secret's values are replaced in output.
func SecretRedact(ref *purserv1.SecretRef) bool {
	if ref.Redact == nil {
		return DefaultSecretRedact
	}
	return ref.GetRedact()
}

// FileFormat is [FormatKeys], [FormatJSON] or [FormatDotenv].
func FileFormat(f *purserv1.SecretFile) string {
	return stringOr(f.GetFormat(), DefaultFileFormat)
}

// FileMode is the permissions of files of a secret.
func FileMode(f *purserv1.SecretFile) fs.FileMode {
	mode, err := strconv.ParseUint(f.GetMode(), 8, 16)
	if err != nil {
		return DefaultFileMode
	}
	return fs.FileMode(mode)
}

// FileDirectory is the directory, in the container, that holds the files of a
// secret: the one that is mounted.
func FileDirectory(f *purserv1.SecretFile) string {
	if FileFormat(f) == FormatKeys {
		return f.GetPath()
	}
	return gopath.Dir(f.GetPath())
}

// parseQuantity reads a Kubernetes quantity as bytes, rounded up.
func parseQuantity(s string) (int64, error) {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return 0, err
	}
	if q.CmpInt64(maxBytes) > 0 {
		return 0, resource.ErrNumeric
	}
	return q.Value(), nil
}

// maxBytes bounds quantities well within what cgroups take.
const maxBytes = 1 << 60

func stringOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// durationOr also falls back on a malformed value: [Validate] refuses those
// before anyone asks.
func durationOr(s string, otherwise time.Duration) time.Duration {
	if d, ok := durationIfSet(s); ok {
		return d
	}
	return otherwise
}

func durationIfSet(s string) (time.Duration, bool) {
	d, err := time.ParseDuration(s)
	return d, err == nil
}
