package metrics

import (
	"context"
	"errors"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/api/version"
	"github.com/purserd/purser/e2e/rig"
)

// fixed is a source that never changes.
type fixed Snapshot

func (f fixed) Measure(context.Context) Snapshot { return Snapshot(f) }

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func example() *Metrics {
	three, packets := uint32(3), uint64(5)
	m := New(version.Info{Version: "1", Commit: "abc"}, withholding{fixed{
		Connected: true, Draining: true,
		Room: Room{Capacity: Amounts{2, 4096, 100}, Allocatable: Amounts{7.6, 4000, 90}, Requested: Amounts{1.5, 512, 8}},
		Workloads: []Workload{
			{App: "a", Function: "f", Environment: "dev", State: "running", Stats: &Stats{CPUSeconds: 1, MemoryBytes: 10}, EgressDropped: &packets},
			{App: "a", Function: "f", Environment: "dev", State: "running", Stats: &Stats{CPUSeconds: 2, MemoryBytes: 20}, EgressDropped: &packets, LastExit: &three},
			{App: "a", Function: "g", Environment: "prod", State: "failed", NotReady: true},
			{App: "run", Function: "x7", Environment: "dev", State: "completed", OneOff: true, LastExit: &three, Stats: &Stats{}},
		},
		OOMKills: map[Function]uint64{{App: "a", Name: "f", Environment: "dev"}: 7},
		Secrets:  []Secret{{Environment: "dev", Name: "s", Current: 4, Pinned: 2, Updated: time.Unix(1700000000, 0)}},
		Sources:  []SecretSource{{Name: "files", Up: true, LastSuccess: time.Unix(1700000000, 0), Troubles: 2}, {Name: "down"}},
		Ports:    Ports{Connections: map[string]uint64{"forwarded": 9, "held_timeout": 0}, BytesIn: 1, BytesOut: 2, DatagramsDropped: 3, Active: 4, Held: 5, UDPClients: 6},
	}, []SecretVersion{{"dev", "s", 6, "quarantined"}}}, Labels{ExitCauses: []string{"exited"}})
	m.NotAdmitted("memory")
	m.Launched(Create, time.Now(), errors.New("no"))
	m.Restarted("exited")
	return m
}

func TestScrape(t *testing.T) {
	text := scrape(t, example())
	for _, want := range []string{
		`purser_workloads{environment="dev",state="running"} 2`,
		`purser_secret_source_up{source="store"} 1`,
		`purser_secret_source_up{source="files"} 1`,
		`purser_secret_source_up{source="down"} 0`,
		`purser_secret_source_last_success_timestamp_seconds{source="files"} 1.7e+09`,
		`purser_secret_source_last_success_timestamp_seconds{source="down"} 0`,
		`purser_secret_source_troubles{source="files"} 2`,
		`purser_workloads_not_ready{environment="dev"} 0`,
		`purser_workloads_not_ready{environment="prod"} 1`,
		`purser_workload_cpu_seconds_total{app="a",environment="dev",function="f"} 3`,
		`purser_workload_memory_bytes{app="a",environment="dev",function="f"} 30`,
		`purser_workload_oom_kills_total{app="a",environment="dev",function="f"} 7`,
		`purser_workload_egress_dropped_packets_total{app="a",environment="dev",function="f"} 10`,
		`purser_workload_last_exit_code{app="a",environment="dev",function="f"} 3`,
		`purser_secret_version{environment="dev",secret="s",state="current"} 4`,
		`purser_secret_version{environment="dev",secret="s",state="pinned"} 2`,
		`purser_secret_updated_timestamp_seconds{environment="dev",secret="s"} 1.7e+09`,
		`purser_launch_duration_seconds_count{phase="create",result="error"} 1`,
		`purser_launch_duration_seconds_count{phase="total",result="ok"} 0`,
		`purser_restarts_total{reason="exited"} 1`,
		`purser_restarts_total{reason="replaced"} 0`,
		`purser_node_capacity_cpu_cores 2`,
		`purser_node_capacity_memory_bytes 4096`,
		`purser_node_capacity_pids 100`,
		`purser_node_allocatable_cpu_cores 7.6`,
		`purser_node_requested_memory_bytes 512`,
		`purser_node_requested_pids 8`,
		`purser_node_draining 1`,
		`purser_state_losses_total 0`,
		`purser_not_admitted_total{reason="memory"} 1`,
		`purser_not_admitted_total{reason="drained"} 0`,
		`purser_port_connections_total{result="forwarded"} 9`,
		`purser_port_connections_total{result="held_timeout"} 0`,
		`purser_port_connections{state="active"} 4`,
		`purser_port_connections{state="held"} 5`,
		`purser_port_udp_clients 6`,
		`purser_port_bytes_total{direction="in"} 1`,
		`purser_port_bytes_total{direction="out"} 2`,
		`purser_port_datagrams_dropped_total 3`,
		`purser_port_forwarder_restarts_total 0`,
		`purser_build_info{commit="abc",version="1"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("missing %s", want)
		}
	}
}

func TestPromtoolIsContent(t *testing.T) {
	promtool := rig.Program(t, "promtool", "apt-get install prometheus")
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, example()))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
