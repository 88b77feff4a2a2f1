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
		`"rotation": {"strategy": "manual"}`: "rolling", `"rotation": {"strategy": "manual"}, "network": {"mode": "host"}`: "restart",
		`"network": {"mode": "host"}`: "restart", `"network": {"mode": "bridge"}`: "rolling",
		`"resources": {"devices": ["nvidia.com/gpu=0"]}`: "restart", `"resources": {"devices": []}`: "rolling", `"resources": {"cpu": 1}`: "rolling",
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

func TestManual(t *testing.T) {
	for fields, want := range map[string]bool{
		``: false, `"rotation": {"strategy": "manual"}`: true, `"rotation": {"strategy": "rolling"}`: false, `"rotation": {"strategy": "restart"}`: false,
	} {
		if got := launchspec.Manual(withFields(t, fields)); got != want {
			t.Errorf("%s: got %v, want %v", fields, got, want)
		}
	}
}

// Who asks for a long min_ready alone has as long as ever to become ready.
func TestHealthTimeout(t *testing.T) {
	const probe = `"probes": {"ready": {"tcp": {"port": 1}}}`
	for fields, want := range map[string]time.Duration{
		``: 70 * time.Second, probe: time.Minute, `"rotation": {"min_ready": "1h"}`: time.Hour + time.Minute,
		`"rotation": {"health_timeout": "30s"}`: 30 * time.Second, `"rotation": {"health_timeout": "30s"}, ` + probe: 30 * time.Second,
	} {
		if got := launchspec.HealthTimeout(withFields(t, fields)); got != want {
			t.Errorf("%s: got %s, want %s", fields, got, want)
		}
	}
}

func TestSplayAndSignal(t *testing.T) {
	least, full := withFields(t, ``), withFields(t, `"rotation": {"splay": "1m30s", "signal": "USR1"}`)
	if launchspec.Splay(least) != 0 || launchspec.RotationSignal(least) != "SIGHUP" {
		t.Errorf("the least means %v and %s", launchspec.Splay(least), launchspec.RotationSignal(least))
	}
	if launchspec.Splay(full) != 90*time.Second || launchspec.RotationSignal(full) != "USR1" {
		t.Errorf("the other means %v and %s", launchspec.Splay(full), launchspec.RotationSignal(full))
	}
}

// Files of a process that runs can be changed, its variables cannot.
func TestOnChange(t *testing.T) {
	const file = `, "file": {"path": "/run/secrets/s"}`
	for fields, want := range map[string]string{
		``: "restart", file: "restart", `, "env": true` + file: "restart", `, "env": false` + file: "refresh",
		`, "on_change": "ignore"`: "ignore", `, "env": false, "on_change": "restart"` + file: "restart",
		`, "env": false, "on_change": "signal"` + file: "signal", `, "env": false, "on_change": "refresh"` + file: "refresh",
	} {
		s := withFields(t, `"secrets": [{"name": "s"`+fields+`}]`)
		if got := launchspec.OnChange(s.GetSecrets()[0]); got != want {
			t.Errorf("%s: got %s, want %s", fields, got, want)
		}
	}
}
