package metrics

import "github.com/prometheus/client_golang/prometheus"

// Healthy is what comes of a new launch spec that turns out well; [BackedOut] of one that
// does not.
const Healthy = "healthy"

// RolloutResults are what comes of new launch specs of services that ran well.
var RolloutResults = []string{Healthy, BackedOut}

var backedOutDesc = desc("workloads_backed_out", "Workloads whose newest launch spec failed, and that run on the one before.", "environment")

// RolloutEnded notes what came of a new launch spec, one of [RolloutResults].
func (m *Metrics) RolloutEnded(result string) { m.rollouts.WithLabelValues(result).Inc() }

// collectRollouts has zero for a known environment that has none.
func collectRollouts(ch chan<- prometheus.Metric, workloads []Workload) {
	counts := map[string]float64{}
	for _, w := range workloads {
		counts[w.Environment] += number(w.BackedOut)
	}
	for environment, n := range counts {
		gauge(ch, backedOutDesc, n, environment)
	}
}
