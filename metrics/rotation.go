package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// RotationStrategies are how a workload moves to other versions of its secrets: by another
// instance, or by other files in the one that runs.
var RotationStrategies = []string{"rolling", "restart", "signal", "refresh"}

// What comes of a try to move a workload to other versions of its secrets.
const (
	Moved      = "moved"      // it became healthy, as its ready probe says
	Unverified = "unverified" // it ran on, and has no ready probe
	BackedOut  = "backed_out" // it did not become healthy, and went back
	Superseded = "superseded" // something newer took its place
	Deferred   = "deferred"   // what it lacked is no fault of the versions
)

// RotationResults are all of them.
var RotationResults = []string{Moved, Unverified, BackedOut, Superseded, Deferred}

// RotationStates are how workloads stand to the newest versions of their secrets.
var RotationStates = []string{"current", "waiting", "rotating", "held", "stale"}

// WithheldStates are why a version of a secret is given to nobody.
var WithheldStates = []string{"held", "quarantined"}

// SecretVersion is a version of a secret that is given to nobody.
type SecretVersion struct {
	// Name is empty where metrics may not name secrets.
	Environment, Name string
	Version           uint32
	// State is one of [WithheldStates].
	State string
}

// Withholder is a [Source] that keeps versions of secrets from workloads.
type Withholder interface {
	SecretVersions() []SecretVersion
}

var (
	rotationDesc = desc("workloads_rotation", "Workloads, by how they stand to the newest versions of their secrets.", "environment", "state")
	deletedDesc  = desc("secrets_deleted_in_use", "Secrets that were deleted and that workloads run on.", "environment")
	withheldDesc = desc("secret_versions_withheld", "Versions of secrets that are given to nobody: held by request, or quarantined as a workload failed with them.", "environment", "state")
)

// rotations are the agent's own counts.
type rotations struct {
	ended       *prometheus.CounterVec
	took        prometheus.Histogram
	propagation prometheus.Histogram
}

func newRotations(r prometheus.Registerer) rotations {
	m := rotations{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_rotations_total",
			Help: "Tries to move a workload to other versions of its secrets, by how it was done and what came of it.",
		}, []string{"strategy", "result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "purser_rotation_duration_seconds",
			Help:    "Time that a workload takes to move to other versions of its secrets, from the first thing done until it is healthy.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600},
		}),
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "purser_secret_propagation_seconds",
			Help:    "Time from a change of a secret until the last workload that uses what changed has moved.",
			Buckets: []float64{1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400},
		}),
	}
	for _, strategy := range RotationStrategies {
		for _, result := range RotationResults {
			m.ended.WithLabelValues(strategy, result)
		}
	}
	r.MustRegister(m.ended, m.took, m.propagation)
	return m
}

// RotationEnded notes what came of a try to move a workload, and after how long.
func (m *Metrics) RotationEnded(strategy, result string, took time.Duration) {
	m.rotations.ended.WithLabelValues(strategy, result).Inc()
	if result == Moved || result == Unverified {
		m.rotations.took.Observe(took.Seconds())
	}
}

// Propagated notes that a change has reached all whom it concerns.
func (m *Metrics) Propagated(d time.Duration) { m.rotations.propagation.Observe(d.Seconds()) }

// collectRotation has zero for what a known environment has none of.
func collectRotation(ch chan<- prometheus.Metric, workloads []Workload) {
	counts := map[string]map[string]int{}
	for _, w := range workloads {
		if counts[w.Environment] == nil {
			counts[w.Environment] = map[string]int{}
		}
		counts[w.Environment][w.Rotation]++
	}
	for environment, by := range counts {
		for _, state := range RotationStates {
			gauge(ch, rotationDesc, float64(by[state]), environment, state)
		}
	}
}

// collectWithheld counts versions, and gives the newest of each secret.
func collectWithheld(ch chan<- prometheus.Metric, secrets []Secret, versions []SecretVersion) {
	counts, newest := map[string]map[string]int{}, map[SecretVersion]uint32{}
	for _, s := range secrets {
		counts[s.Environment] = map[string]int{}
	}
	for _, v := range versions {
		if counts[v.Environment] == nil {
			counts[v.Environment] = map[string]int{}
		}
		counts[v.Environment][v.State]++
		of := SecretVersion{Environment: v.Environment, Name: v.Name, State: v.State}
		newest[of] = max(newest[of], v.Version)
	}
	for environment, by := range counts {
		for _, state := range WithheldStates {
			gauge(ch, withheldDesc, float64(by[state]), environment, state)
		}
	}
	for of, version := range newest {
		if of.Name != "" {
			gauge(ch, versionDesc, float64(version), of.Environment, of.Name, of.State)
		}
	}
}
