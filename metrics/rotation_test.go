package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/api/version"
)

// withholding is a source that keeps versions back.
type withholding struct {
	fixed
	versions []SecretVersion
}

func (w withholding) SecretVersions() []SecretVersion { return w.versions }

func holds(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("missing %s", line)
		}
	}
}

func TestRotations(t *testing.T) {
	m := New(version.Info{}, fixed{}, Labels{})
	m.RotationEnded("rolling", Moved, 3*time.Second)
	m.RotationEnded("rolling", BackedOut, time.Minute)
	m.RotationEnded("refresh", Unverified, 7*time.Second)
	m.RotationEnded("refresh", Deferred, time.Hour)
	m.Propagated(90 * time.Second)
	holds(t, scrape(t, m),
		`purser_rotations_total{result="moved",strategy="rolling"} 1`,
		`purser_rotations_total{result="backed_out",strategy="rolling"} 1`,
		`purser_rotations_total{result="deferred",strategy="refresh"} 1`,
		`purser_rotations_total{result="superseded",strategy="signal"} 0`,
		`purser_rotations_total{result="moved",strategy="restart"} 0`,
		`purser_rotation_duration_seconds_count 2`,
		`purser_rotation_duration_seconds_sum 10`,
		`purser_secret_propagation_seconds_sum 90`)
}

func TestWorkloadsByRotation(t *testing.T) {
	m := New(version.Info{}, fixed{Workloads: []Workload{
		{Environment: "dev", Rotation: "stale"}, {Environment: "dev", Rotation: "stale"}, {Environment: "dev", Rotation: "current"},
		{Environment: "prod"},
	}}, Labels{})
	holds(t, scrape(t, m),
		`purser_workloads_rotation{environment="dev",state="stale"} 2`,
		`purser_workloads_rotation{environment="dev",state="current"} 1`,
		`purser_workloads_rotation{environment="dev",state="held"} 0`,
		`purser_workloads_rotation{environment="prod",state="current"} 0`)
}

func TestRollouts(t *testing.T) {
	m := New(version.Info{}, fixed{Workloads: []Workload{{Environment: "dev", BackedOut: true}, {Environment: "dev"}, {Environment: "prod"}}}, Labels{})
	m.RolloutEnded(BackedOut)
	holds(t, scrape(t, m),
		`purser_rollouts_total{result="backed_out"} 1`,
		`purser_rollouts_total{result="healthy"} 0`,
		`purser_workloads_backed_out{environment="dev"} 1`,
		`purser_workloads_backed_out{environment="prod"} 0`)
}

func TestWithheldVersions(t *testing.T) {
	m := New(version.Info{}, withholding{
		fixed{Secrets: []Secret{{Environment: "test", Name: "s", Current: 1}}},
		[]SecretVersion{
			{"dev", "s", 4, "held"}, {"dev", "s", 6, "held"}, {"dev", "s", 5, "held"}, {"dev", "s", 3, "quarantined"},
			{"prod", "", 9, "quarantined"}, {"prod", "", 9, "quarantined"},
		},
	}, Labels{})
	text := scrape(t, m)
	holds(t, text,
		`purser_secret_versions_withheld{environment="dev",state="held"} 3`,
		`purser_secret_versions_withheld{environment="dev",state="quarantined"} 1`,
		`purser_secret_versions_withheld{environment="prod",state="quarantined"} 2`,
		`purser_secret_versions_withheld{environment="prod",state="held"} 0`,
		`purser_secret_versions_withheld{environment="test",state="held"} 0`,
		`purser_secret_version{environment="dev",secret="s",state="held"} 6`,
		`purser_secret_version{environment="dev",secret="s",state="quarantined"} 3`,
		`purser_secret_version{environment="test",secret="s",state="current"} 1`)
	if strings.Contains(text, `secret=""`) {
		t.Error("a secret that may not be named has a metric of its own")
	}
}
