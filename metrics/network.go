package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Addresses is the reason of what is refused as the container network has too few.
const Addresses = "addresses"

var networksDesc = desc("networks_ready", "Network namespaces that are connected to the container network and wait for containers.")

func networks(r prometheus.Registerer, operations, results []string) *prometheus.HistogramVec {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "purser_network_duration_seconds",
		Help:    "Time that CNI plugins take to connect a network namespace to the container network (add), or to disconnect it (del).",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"operation", "result"})
	for _, operation := range operations {
		for _, result := range results {
			vec.WithLabelValues(operation, result)
		}
	}
	r.MustRegister(vec)
	return vec
}

// Networked notes what was done to a network namespace, and how it ended.
func (m *Metrics) Networked(operation, result string, took time.Duration) {
	m.networks.WithLabelValues(operation, result).Observe(took.Seconds())
}
