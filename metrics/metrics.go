package metrics

import (
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/purserd/purser/api/launchspec"
	"github.com/purserd/purser/api/version"
)

// Phases of a launch, in order; Total is all of them but Pull, which most launches
// do without.
const (
	Pull    = "pull"
	Resolve = "resolve"
	Create  = "create"
	Start   = "start"
	Total   = "total"
)

// Replacement is the reason of a restart that was asked for, by a new spec or by name.
// All others are what ended the container before.
const Replacement = "replaced"

// OK is the result of what succeeded.
const OK = "ok"

// PullResults are the results of a pull.
var PullResults = []string{
	OK, "unauthorized", "not_found", "no_such_host", "connection_refused", "certificate_not_trusted", "no_image_for",
	"timed_out", "too_many_requests", "registry_unavailable", "no_space", "connection_lost", "misconfigured", "canceled", "failed",
}

// What removes an image.
const (
	ByRequest = "request"
	ByGC      = "gc"  // the disk was too full
	ByAge     = "age" // nothing had used it for long
)

// What became of containers that an agent found when it started.
const (
	Adopted     = "adopted"     // runs on as it is
	Recovered   = "recovered"   // no record knew of it, and one does now
	Undone      = "undone"      // did not run, and no record knew of it: deleted
	Unexplained = "unexplained" // left alone, and reported
)

// Metrics is a node's registry.
type Metrics struct {
	registry  *prometheus.Registry
	launches  *prometheus.HistogramVec
	restarts  *prometheus.CounterVec
	injects   *prometheus.CounterVec
	pulls     *prometheus.CounterVec
	removed   *prometheus.CounterVec
	images    prometheus.Gauge
	records   *prometheus.CounterVec
	leaks     *prometheus.CounterVec
	unaudited prometheus.Counter
	helpers   prometheus.Counter
	losses    prometheus.Counter
	probes    *prometheus.CounterVec
	adoptions *prometheus.CounterVec

	forwarders  prometheus.Counter
	notAdmitted *prometheus.CounterVec
	networks    *prometheus.HistogramVec
	rotations   rotations
	rollouts    *prometheus.CounterVec
}

// Labels are closed sets of labels' values that other packages define.
type Labels struct {
	// AuditActions are what records of the audit trail are about.
	AuditActions []string
	// ExitCauses are what ends containers.
	ExitCauses []string
	// LeakKinds are what containers leave on the node.
	LeakKinds []string
	// Resources are what workloads ask for.
	Resources []string
	// NetworkOperations are what is done to network namespaces, NetworkResults how it ends.
	NetworkOperations, NetworkResults []string
}

// New makes the registry of a build; source is asked at every scrape.
func New(build version.Info, source Source, labels Labels) *Metrics {
	r := prometheus.NewRegistry()
	m := &Metrics{
		registry: r,
		launches: launches(r),
		restarts: counters(r, "purser_restarts_total", "Instances started after an earlier one of the same workload, by what made it necessary.",
			"reason", slices.Concat(labels.ExitCauses, []string{Replacement})),
		injects: counters(r, "purser_inject_requests_total", "Requests of OCI runtimes for what containerd must not see, by result.",
			"result", []string{OK, "refused", "error"}),
		pulls: counters(r, "purser_image_pulls_total", "Images pulled from registries, by result.",
			"result", PullResults),
		removed: counters(r, "purser_images_removed_total", "Images removed from the node, by what removed them.",
			"reason", []string{ByRequest, ByGC, ByAge}),
		records: counters(r, "purser_audit_records_total", "Records of the audit trail, by what they are about.",
			"action", labels.AuditActions),
		leaks: counters(r, "purser_leaks_total", "Things that containers had left on the node and that a sweep removed, by what they were. It stays at zero.",
			"kind", labels.LeakKinds),
		probes: counters(r, "purser_probe_failures_total", "Tries of probes that failed, by probe. What lies outside the container does not count.",
			"probe", launchspec.ProbeNames),
		adoptions: counters(r, "purser_adoptions_total", "Containers that were there when the agent started, by what became of them.",
			"result", []string{Adopted, Recovered, Undone, Unexplained}),
		notAdmitted: counters(r, "purser_not_admitted_total", "Launches, starts and restarts that were refused: too little of a resource, too few addresses on the container network, or the node is drained.",
			"reason", slices.Concat(labels.Resources, []string{Addresses, Drained})),
		rollouts: counters(r, "purser_rollouts_total", "New launch specs of services that ran well, by what came of them.",
			"result", RolloutResults),
		rotations:  newRotations(r),
		networks:   networks(r, labels.NetworkOperations, labels.NetworkResults),
		unaudited:  single(r, "purser_audit_failures_total", "Records of the audit trail that could not be written, and failures to have them on disk."),
		helpers:    single(r, "purser_log_helper_restarts_total", "Log helpers started in the place of one that had ended unasked."),
		forwarders: single(r, "purser_port_forwarder_restarts_total", "Port forwarders started in the place of one that had ended unasked, and its connections with it."),
		losses:     single(r, "purser_state_losses_total", "Losses of state that the agent found: its database was damaged or gone, or records of it were damaged. It stays at zero."),
		images: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "purser_images_bytes",
			Help: "Compressed size of the node's images.",
		}),
	}
	r.MustRegister(m.images, buildInfo(build), &collector{source: source},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// counters are counters by one label with a closed set of values, all of them there
// from the start.
func counters(r prometheus.Registerer, name, help, label string, values []string) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		vec.WithLabelValues(value)
	}
	r.MustRegister(vec)
	return vec
}

func single(r prometheus.Registerer, name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.MustRegister(c)
	return c
}

func launches(r prometheus.Registerer) *prometheus.HistogramVec {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "purser_launch_duration_seconds",
		Help:    "Time from the decision to start an instance until it runs, by phase.",
		Buckets: []float64{.005, .01, .025, .05, .075, .1, .15, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"phase", "result"})
	for _, phase := range []string{Pull, Resolve, Create, Start, Total} {
		vec.WithLabelValues(phase, OK)
		vec.WithLabelValues(phase, "error")
	}
	r.MustRegister(vec)
	return vec
}

func buildInfo(build version.Info) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "purser_build_info",
		Help:        "1, with the version and commit of the agent.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit},
	})
	info.Set(1)
	return info
}

// Launched notes one phase of a launch that began at the time given.
func (m *Metrics) Launched(phase string, began time.Time, err error) {
	result := OK
	if err != nil {
		result = "error"
	}
	m.launches.WithLabelValues(phase, result).Observe(time.Since(began).Seconds())
}

// Restarted notes a restart.
func (m *Metrics) Restarted(reason string) { m.restarts.WithLabelValues(reason).Inc() }

// Injected notes a request of an OCI runtime: ok, refused (it may not have what it
// asked for) or error.
func (m *Metrics) Injected(result string) { m.injects.WithLabelValues(result).Inc() }

// Pulled notes a pull that has ended: ok, or why it failed.
func (m *Metrics) Pulled(result string) { m.pulls.WithLabelValues(result).Inc() }

// Removed notes an image that was removed, and for which reason.
func (m *Metrics) Removed(reason string) { m.removed.WithLabelValues(reason).Inc() }

// Adopted notes what became of a container that was there when the agent started.
func (m *Metrics) Adopted(result string) { m.adoptions.WithLabelValues(result).Inc() }

// Images notes the size of all images, in bytes.
func (m *Metrics) Images(bytes int64) { m.images.Set(float64(bytes)) }

// Audited notes a record of the audit trail.
func (m *Metrics) Audited(action string) { m.records.WithLabelValues(action).Inc() }

// Leaked notes something that was left of a container and has been removed.
func (m *Metrics) Leaked(kind string) { m.leaks.WithLabelValues(kind).Inc() }

// Unaudited notes a record that could not be written, or not be had on disk.
func (m *Metrics) Unaudited() { m.unaudited.Inc() }

// LogHelperRestarted notes that a log helper had died.
func (m *Metrics) LogHelperRestarted() { m.helpers.Inc() }

// StateLost notes that the database, or records of it, were damaged or gone.
func (m *Metrics) StateLost() { m.losses.Inc() }

// ProbeFailed notes a try of a probe (startup, ready or live) that failed.
func (m *Metrics) ProbeFailed(probe string) { m.probes.WithLabelValues(probe).Inc() }

// Handler serves the registry at a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry,
		// What can be had is better than an error that hides it.
		ErrorHandling: promhttp.ContinueOnError,
	})
}
