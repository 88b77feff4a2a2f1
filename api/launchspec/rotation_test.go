package launchspec_test

import (
	"testing"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

// What two instances cannot both have keeps them from running side by side.
func TestStrategy(t *testing.T) {
	for fields, want := range map[string]string{
		``: "rolling", `"rotation": {"strategy": "restart"}`: "restart", `"kind": "job"`: "restart", `"kind": "job", "rotation": {"strategy": "rolling"}`: "restart",
		`"network": {"mode": "host"}`: "restart", `"network": {"mode": "bridge"}`: "rolling",
		`"mounts": [{"source": "/s", "target": "/s"}]`: "restart", `"mounts": [{"source": "/s", "target": "/s", "read_only": true}]`: "rolling",
		`"mounts": [{"type": "tmpfs", "target": "/s"}]`: "rolling", `"mounts": [{"type": "volume", "source": "v", "target": "/s"}]`: "restart",
	} {
		if got := launchspec.Strategy(withFields(t, fields)); got != want {
			t.Errorf("%s: got %s, want %s", fields, got, want)
		}
	}
}

func TestMinReady(t *testing.T) {
	const probe = `"probes": {"ready": {"tcp": {"port": 1}}}`
	for fields, want := range map[string]time.Duration{
		``: 10 * time.Second, probe: 0, `"rotation": {"min_ready": "0"}`: 0, `"rotation": {"min_ready": "3s"}, ` + probe: 3 * time.Second,
		`"probes": {"live": {"tcp": {"port": 1}}}`: 10 * time.Second,
	} {
		if got := launchspec.MinReady(withFields(t, fields)); got != want {
			t.Errorf("%s: got %s, want %s", fields, got, want)
		}
	}
}
