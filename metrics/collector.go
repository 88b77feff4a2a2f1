package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scrapeTimeout bounds what a scrape waits for the container runtime: less
// than Prometheus' own ten seconds, so that the rest still arrives.
const scrapeTimeout = 3 * time.Second

// Source is asked for the node's state at every scrape.
type Source interface {
	Measure(ctx context.Context) Snapshot
}

// Snapshot is the state of a node.
type Snapshot struct {
	Workloads []Workload
	Secrets   []Secret
	Sources   []SecretSource
	// OOMKills, so far, by function; those of one-off workloads are not counted.
	OOMKills map[Function]uint64
	// Connected tells whether containerd could be reached.
	Connected bool
	// Redactions, so far, in what containers and commands in them wrote.
	Redactions uint64
	// LogBytesLost, so far, of what containers wrote and could not be kept.
	LogBytesLost uint64
	Room         Room
	// NetworksReady are connected network namespaces that wait for containers.
	NetworksReady int
	// Draining: the node is drained, or being drained.
	Draining bool
	Ports    Ports
	// DeletedInUse are secrets that were deleted and that workloads run on, by environment.
	DeletedInUse map[string]int
}

// Function is what the metrics know a workload by.
type Function struct{ App, Name, Environment string }

// Workload is one workload's state and, when Stats is set, its usage.
type Workload struct {
	App, Function, Environment string
	State                      string
	// NotReady: it is wanted, and does not do what it is for.
	NotReady bool
	// Rotation is one of [RotationStates]; empty for what has no secrets that change.
	Rotation string
	// BackedOut: its newest launch spec failed, and the one before is in force.
	BackedOut bool
	// LastExit is the exit code of its last instance; nil before the first ended.
	LastExit *uint32
	Stats    *Stats
	// EgressDropped are the packets that its instance may not send; nil when it may send all.
	EgressDropped *uint64
	// OneOff workloads are counted by state only: their names do not recur.
	OneOff bool
}

// Stats is what a container's cgroup counts.
type Stats struct {
	CPUSeconds  float64
	MemoryBytes float64
}

// Secret is one secret's state; versions are 0 when there is none.
type Secret struct {
	Environment, Name string
	// Current is what a new launch gets; Pinned is the oldest that a workload runs on.
	Current, Pinned uint32
	Updated         time.Time
}

var (
	workloadsDesc = desc("workloads", "Workloads, by what they are doing.", "environment", "state")
	notReadyDesc  = desc("workloads_not_ready", "Workloads that are to run and do not, or whose startup or ready probe does not pass.", "environment")
	cpuDesc       = desc("workload_cpu_seconds_total", "CPU time of a workload's running instance.", workloadLabels...)
	memoryDesc    = desc("workload_memory_bytes", "Memory of a workload's running instance.", workloadLabels...)
	oomDesc       = desc("workload_oom_kills_total", "Processes of a workload that were killed for want of memory, since the agent started.", workloadLabels...)
	egressDesc    = desc("workload_egress_dropped_packets_total", "Packets that a workload's running instance sent to addresses that its spec does not allow.", workloadLabels...)
	exitDesc      = desc("workload_last_exit_code", "Exit code of a workload's last instance that ended.", workloadLabels...)
	versionDesc   = desc("secret_version", "Version of a secret: current is what a new launch gets, pinned the oldest in use, held and quarantined the newest that nobody gets.", "environment", "secret", "state")
	redactDesc    = desc("redactions_total", "Values of secrets replaced in what containers and commands in them wrote.")
	logLostDesc   = desc("log_lost_bytes_total", "Bytes that containers wrote and that could not be kept: the disk was full, or did not answer.")
	updatedDesc   = desc("secret_updated_timestamp_seconds", "When a secret was last changed.", "environment", "secret")
	connectedDesc = desc("containerd_up", "1 when containerd can be reached.")
)

var workloadLabels = []string{"app", "function", "environment"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("purser_"+name, help, labels, nil)
}

// collector makes metrics of a snapshot.
type collector struct{ source Source }

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{workloadsDesc, notReadyDesc, cpuDesc, memoryDesc, oomDesc, egressDesc, exitDesc, versionDesc, updatedDesc, redactDesc, logLostDesc, connectedDesc} {
		ch <- d
	}
	describeSources(ch)
	describeNode(ch)
	ch <- networksDesc
	ch <- rotationDesc
	ch <- backedOutDesc
	ch <- withheldDesc
	ch <- deletedDesc
	describePorts(ch)
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s := c.source.Measure(ctx)
	collectStates(ch, s.Workloads)
	collectUsage(ch, s.Workloads)
	collectOOMKills(ch, s.OOMKills)
	collectSecrets(ch, s.Secrets)
	collectRotation(ch, s.Workloads)
	collectRollouts(ch, s.Workloads)
	for environment, n := range s.DeletedInUse {
		gauge(ch, deletedDesc, float64(n), environment)
	}
	if w, ok := c.source.(Withholder); ok {
		collectWithheld(ch, s.Secrets, w.SecretVersions())
	}
	counter(ch, redactDesc, float64(s.Redactions))
	counter(ch, logLostDesc, float64(s.LogBytesLost))
	collectSources(ch, s.Sources)
	collectNode(ch, s)
	gauge(ch, networksDesc, float64(s.NetworksReady))
	collectPorts(ch, s.Ports)
	gauge(ch, connectedDesc, number(s.Connected))
}

// number is 1 for what is so.
func number(so bool) float64 {
	if so {
		return 1
	}
	return 0
}

func collectStates(ch chan<- prometheus.Metric, workloads []Workload) {
	counts := map[[2]string]float64{}
	notReady := map[string]float64{}
	for _, w := range workloads {
		counts[[2]string{w.Environment, w.State}]++
		notReady[w.Environment] += number(w.NotReady)
	}
	for labels, n := range counts {
		gauge(ch, workloadsDesc, n, labels[0], labels[1])
	}
	for environment, n := range notReady {
		gauge(ch, notReadyDesc, n, environment)
	}
}

// usage adds up workloads that share their labels.
type usage struct {
	stats    Stats
	measured bool
	limited  bool
	dropped  uint64
	exit     *uint32
}

func collectUsage(ch chan<- prometheus.Metric, workloads []Workload) {
	sums := map[[3]string]*usage{}
	for _, w := range workloads {
		if w.OneOff {
			continue
		}
		labels := [3]string{w.App, w.Function, w.Environment}
		if sums[labels] == nil {
			sums[labels] = &usage{}
		}
		sums[labels].add(w)
	}
	for l, u := range sums {
		if u.measured {
			counter(ch, cpuDesc, u.stats.CPUSeconds, l[:]...)
			gauge(ch, memoryDesc, u.stats.MemoryBytes, l[:]...)
		}
		if u.limited {
			counter(ch, egressDesc, float64(u.dropped), l[:]...)
		}
		if u.exit != nil {
			gauge(ch, exitDesc, float64(*u.exit), l[:]...)
		}
	}
}

func collectOOMKills(ch chan<- prometheus.Metric, kills map[Function]uint64) {
	for f, n := range kills {
		counter(ch, oomDesc, float64(n), f.App, f.Name, f.Environment)
	}
}

func (u *usage) add(w Workload) {
	if w.LastExit != nil {
		u.exit = w.LastExit
	}
	if w.EgressDropped != nil {
		u.limited = true
		u.dropped += *w.EgressDropped
	}
	if w.Stats != nil {
		u.measured = true
		u.stats.CPUSeconds += w.Stats.CPUSeconds
		u.stats.MemoryBytes += w.Stats.MemoryBytes
	}
}

func collectSecrets(ch chan<- prometheus.Metric, secrets []Secret) {
	for _, s := range secrets {
		if s.Current != 0 {
			gauge(ch, versionDesc, float64(s.Current), s.Environment, s.Name, "current")
		}
		if s.Pinned != 0 {
			gauge(ch, versionDesc, float64(s.Pinned), s.Environment, s.Name, "pinned")
		}
		gauge(ch, updatedDesc, float64(s.Updated.UnixMilli())/1000, s.Environment, s.Name)
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}
