package metrics

import (
	"net/http"
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

// LeakKinds are the kinds of what containers leave.
var LeakKinds = []string{
	"task", "runtime_state", "cgroup", "shim", "bundle", "output", "files", "secret_files",
	"rootfs", "snapshot", "log", "exec", "view", "mount", "probe",
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
	probes    *prometheus.CounterVec
	adoptions *prometheus.CounterVec

	notAdmitted *prometheus.CounterVec
}

// Labels are closed sets of labels' values that other packages define.
type Labels struct {
	// AuditActions are what records of the audit trail are about.
	AuditActions []string
	// ExitCauses are what ends containers.
	ExitCauses []string
}

// New makes the registry of a build; source is asked at every scrape.
func New(build version.Info, source Source, labels Labels) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		launches: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "purser_launch_duration_seconds",
			Help:    "Time from the decision to start an instance until it runs, by phase.",
			Buckets: []float64{.005, .01, .025, .05, .075, .1, .15, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"phase", "result"}),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_restarts_total",
			Help: "Instances started after an earlier one of the same workload, by what made it necessary.",
		}, []string{"reason"}),
		injects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_inject_requests_total",
			Help: "Requests of OCI runtimes for what containerd must not see, by result.",
		}, []string{"result"}),
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_image_pulls_total",
			Help: "Images pulled from registries, by result.",
		}, []string{"result"}),
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_images_removed_total",
			Help: "Images removed from the node, by what removed them.",
		}, []string{"reason"}),
		images: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "purser_images_bytes",
			Help: "Compressed size of the node's images.",
		}),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_audit_records_total",
			Help: "Records of the audit trail, by what they are about.",
		}, []string{"action"}),
		leaks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_leaks_total",
			Help: "Things that containers had left on the node and that a sweep removed, by what they were. It stays at zero.",
		}, []string{"kind"}),
		unaudited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "purser_audit_failures_total",
			Help: "Records of the audit trail that could not be written, and failures to have them on disk.",
		}),
		helpers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "purser_log_helper_restarts_total",
			Help: "Log helpers started in the place of one that had ended unasked.",
		}),
	}
	m.probes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "purser_probe_failures_total",
		Help: "Tries of probes that failed, by probe. What lies outside the container does not count.",
	}, []string{"probe"})
	for _, probe := range launchspec.ProbeNames {
		m.probes.WithLabelValues(probe)
	}
	m.adoptions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "purser_adoptions_total",
		Help: "Containers that were there when the agent started, by what became of them.",
	}, []string{"result"})
	for _, result := range []string{Adopted, Recovered, Undone, Unexplained} {
		m.adoptions.WithLabelValues(result)
	}
	m.notAdmitted = newNotAdmitted()
	for _, action := range labels.AuditActions {
		m.records.WithLabelValues(action)
	}
	for _, kind := range LeakKinds {
		m.leaks.WithLabelValues(kind)
	}
	for _, result := range PullResults {
		m.pulls.WithLabelValues(result)
	}
	for _, reason := range []string{ByRequest, ByGC, ByAge} {
		m.removed.WithLabelValues(reason)
	}
	for _, phase := range []string{Pull, Resolve, Create, Start, Total} {
		m.launches.WithLabelValues(phase, "ok")
		m.launches.WithLabelValues(phase, "error")
	}
	for _, cause := range append(labels.ExitCauses, Replacement) {
		m.restarts.WithLabelValues(cause)
	}
	for _, result := range []string{"ok", "refused", "error"} {
		m.injects.WithLabelValues(result)
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "purser_build_info",
		Help:        "1, with the version and commit of the agent.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit},
	})
	info.Set(1)
	m.registry.MustRegister(m.launches, m.restarts, m.injects, m.pulls, m.removed, m.images, m.records, m.leaks, m.unaudited, m.helpers, m.probes, m.notAdmitted, m.adoptions, info, &collector{source: source},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Launched notes one phase of a launch that began at the time given.
func (m *Metrics) Launched(phase string, began time.Time, err error) {
	result := "ok"
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
