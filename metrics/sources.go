package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// SecretSource is a source of secrets besides the store.
type SecretSource struct {
	Name string
	// Up: it can be read. LastSuccess is when all of it was; zero for never.
	Up          bool
	LastSuccess time.Time
	// Troubles are how many of its secrets are not kept as it has them.
	Troubles int
}

var (
	sourceUpDesc       = desc("secret_source_up", "1 when secrets can be read from a source.", "source")
	sourceSuccessDesc  = desc("secret_source_last_success_timestamp_seconds", "When all of a source was last read; 0 before that.", "source")
	sourceTroublesDesc = desc("secret_source_troubles", "Secrets of a source that are not kept as it has them: in conflict with another's, or not fit to be kept.", "source")
)

func describeSources(ch chan<- *prometheus.Desc) {
	ch <- sourceUpDesc
	ch <- sourceSuccessDesc
	ch <- sourceTroublesDesc
}

func collectSources(ch chan<- prometheus.Metric, sources []SecretSource) {
	gauge(ch, sourceUpDesc, 1, "store")
	for _, s := range sources {
		gauge(ch, sourceUpDesc, number(s.Up), s.Name)
		success := 0.0
		if !s.LastSuccess.IsZero() {
			success = float64(s.LastSuccess.UnixMilli()) / 1000
		}
		gauge(ch, sourceSuccessDesc, success, s.Name)
		gauge(ch, sourceTroublesDesc, float64(s.Troubles), s.Name)
	}
}
