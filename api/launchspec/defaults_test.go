package launchspec_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func ptr[T any](v T) *T { return &v }

// meaning is what the accessors make of an empty spec, in the words of the
// table.
func meaning() map[string]string {
	s := &purserv1.LaunchSpec{App: ptr("app"), Function: ptr("function")}
	m, p, port := &purserv1.Mount{}, &purserv1.Probe{}, &purserv1.Port{Container: ptr(uint32(80))}
	exclusive := &purserv1.LaunchSpec{Mounts: []*purserv1.Mount{m}}
	probed := &purserv1.LaunchSpec{Probes: &purserv1.Probes{Ready: p}}
	orNoLimit := func(ok bool, otherwise string) string {
		if ok {
			return "set"
		}
		return otherwise
	}
	_, hasCPU := launchspec.CPU(s)
	_, hasMemory := launchspec.Memory(s)
	_, hasTimeout := launchspec.Timeout(s)
	_, hasTTL := launchspec.TTL(s)
	return map[string]string{
		"environment":             launchspec.Environment(s),
		"id":                      launchspec.ID(s),
		"kind":                    launchspec.Kind(s),
		"image.pull":              launchspec.PullPolicy(s),
		"restart.policy":          launchspec.RestartPolicy(s),
		"restart.backoff_min":     launchspec.BackoffMin(s).String(),
		"restart.backoff_max":     launchspec.BackoffMax(s).String(),
		"timeout":                 orNoLimit(hasTimeout, "no limit"),
		"retries":                 fmt.Sprint(launchspec.Retries(s)),
		"ttl_after_finished":      orNoLimit(hasTTL, "kept"),
		"stop.grace":              launchspec.StopGrace(s).String(),
		"rotation.strategy":       fmt.Sprintf("%s; %s with network.mode host, devices or a mount that can be written to", launchspec.Strategy(s), launchspec.Strategy(exclusive)),
		"rotation.min_ready":      fmt.Sprintf("%s; with a ready probe %s", launchspec.MinReady(s), launchspec.MinReady(probed)),
		"rotation.health_timeout": fmt.Sprintf("%s more than min_ready", launchspec.HealthTimeout(s)-launchspec.MinReady(s)),
		"rotation.splay":          launchspec.Splay(s).String(),
		"rotation.signal":         launchspec.RotationSignal(s),
		"secrets[].on_change":     fmt.Sprintf("%s; %s without variables", launchspec.OnChange(&purserv1.SecretRef{}), launchspec.OnChange(&purserv1.SecretRef{Env: ptr(false)})),
		"resources.cpu":           orNoLimit(hasCPU, "no limit"),
		"resources.memory":        orNoLimit(hasMemory, "no limit"),
		"resources.pids":          fmt.Sprint(launchspec.Pids(s)),
		"mounts[].type":           launchspec.MountType(m),
		"mounts[].size":           resource.NewQuantity(launchspec.MountSize(m), resource.BinarySI).String(),
		"mounts[].read_only":      fmt.Sprint(m.GetReadOnly()),
		"read_only_root":          fmt.Sprint(s.GetReadOnlyRoot()),
		"stdin":                   fmt.Sprint(s.GetStdin()),
		"tty":                     fmt.Sprint(s.GetTty()),
		"secrets[].env":           fmt.Sprint(launchspec.SecretEnv(&purserv1.SecretRef{})),
		"secrets[].file.format":   launchspec.FileFormat(&purserv1.SecretFile{}),
		"secrets[].file.mode":     fmt.Sprintf("%04o", launchspec.FileMode(&purserv1.SecretFile{})),

		"probes.*.initial_delay":  launchspec.ProbeInitialDelay(p).String(),
		"probes.*.timeout":        launchspec.ProbeTimeout(p).String(),
		"probes.*.successes":      fmt.Sprint(launchspec.ProbeSuccesses(p)),
		"probes.startup.period":   launchspec.ProbePeriod(launchspec.ProbeStartup, p).String(),
		"probes.startup.failures": fmt.Sprint(launchspec.ProbeFailures(launchspec.ProbeStartup, p)),
		"probes.ready.period":     launchspec.ProbePeriod(launchspec.ProbeReady, p).String(),
		"probes.ready.failures":   fmt.Sprint(launchspec.ProbeFailures(launchspec.ProbeReady, p)),
		"probes.live.period":      launchspec.ProbePeriod(launchspec.ProbeLive, p).String(),
		"probes.live.failures":    fmt.Sprint(launchspec.ProbeFailures(launchspec.ProbeLive, p)),
		"probes.*.http.path":      launchspec.ProbePath(&purserv1.HttpProbe{}),
		"probes.*.http.scheme":    launchspec.ProbeScheme(&purserv1.HttpProbe{}),

		"network.block_network":    fmt.Sprint(s.GetNetwork().GetBlockNetwork()),
		"network.ports[].protocol": launchspec.Protocol(port),

		"secrets[].optional": fmt.Sprint((&purserv1.SecretRef{}).GetOptional()),
	}
}

// inWords are the rows whose meaning is not this package's to give.
var inWords = map[string]bool{
	"stop.signal": true, "runtime": true, "command": true, "args": true,
	"user": true, "workdir": true, "secrets[].version": true,
	"secrets[].file.uid": true, "secrets[].file.gid": true, "secrets[].file": true,
	"image.auth_secret": true, "probes": true, "hooks": true,
	"network.mode": true, "network.ports": true, "network.ports[].host": true, "network.ports[].host_ip": true,
	"network.ports[].proxy_protocol": true, "resources.devices": true, "network.cidr_allowlist": true,
	"rotation.window": true, "rotation.window.timezone": true, "probes.*.http.host": true, "probes.*.grpc.service": true, "secrets[].keys": true,
}

func TestDefaultsTable(t *testing.T) {
	documented := documentedDefaults(t)
	for field, want := range meaning() {
		if got := documented[field]; got != want {
			t.Errorf("docs/launch-spec.md says %s is %q, the code says %q", field, got, want)
		}
		delete(documented, field)
	}
	for field := range inWords {
		if documented[field] == "" {
			t.Errorf("docs/launch-spec.md has no default for %s", field)
		}
	}
	for field := range documented {
		if !inWords[field] {
			t.Errorf("docs/launch-spec.md has a default for %s, which no accessor gives", field)
		}
	}
}

// documentedDefaults reads the table below "## Defaults".
func documentedDefaults(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/launch-spec.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Defaults\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		for field := range strings.SplitSeq(strings.ReplaceAll(cells[1], "`", ""), ",") {
			documented[strings.TrimSpace(field)] = strings.ReplaceAll(strings.TrimSpace(cells[2]), "`", "")
		}
	}
	if len(documented) == 0 {
		t.Fatal("docs/launch-spec.md has no table of defaults")
	}
	return documented
}

func TestAccessorsOfSetFields(t *testing.T) {
	s := &purserv1.LaunchSpec{
		App: ptr("a"), Function: ptr("f"), Id: ptr("other/id"), Environment: ptr("prod"), Kind: ptr("job"),
		Timeout: ptr("1m30s"), Retries: ptr(uint32(2)), TtlAfterFinished: ptr("0"), Runtime: ptr("crun"),
		Restart:   &purserv1.Restart{Policy: ptr("never"), BackoffMin: ptr("2s"), BackoffMax: ptr("3s")},
		Resources: &purserv1.Resources{Cpu: ptr(0.5), Memory: ptr("256Mi"), Pids: ptr(uint32(7))},
		Network:   &purserv1.Network{Mode: ptr("host")},
		Image:     &purserv1.Image{Pull: ptr("never")},
		Stop:      &purserv1.Stop{Signal: ptr("INT"), Grace: ptr("0s")},
	}
	probe := &purserv1.Probe{InitialDelay: ptr("2s"), Period: ptr("3s"), Timeout: ptr("4s"), Failures: ptr(uint32(5)), Successes: ptr(uint32(6))}
	get := &purserv1.HttpProbe{Path: ptr("/x"), Scheme: ptr("https")}
	timeout, hasTimeout := launchspec.Timeout(s)
	ttl, hasTTL := launchspec.TTL(s)
	cpu, hasCPU := launchspec.CPU(s)
	memory, hasMemory := launchspec.Memory(s)
	tmpfs := &purserv1.Mount{Type: ptr("tmpfs"), Size: ptr("1M")}
	got := []any{
		launchspec.Environment(s), launchspec.ID(s), launchspec.Kind(s), launchspec.IsJob(s),
		timeout, hasTimeout, launchspec.Retries(s), ttl, hasTTL, launchspec.Runtime(s),
		launchspec.RestartPolicy(s), launchspec.BackoffMin(s), launchspec.BackoffMax(s),
		cpu, hasCPU, memory, hasMemory, launchspec.Pids(s),
		launchspec.NetworkMode(s), launchspec.StopSignal(s), launchspec.StopGrace(s),
		launchspec.MountType(tmpfs), launchspec.MountSize(tmpfs), launchspec.PullPolicy(s),
		launchspec.ProbeInitialDelay(probe), launchspec.ProbePeriod("startup", probe), launchspec.ProbePeriod("live", probe), launchspec.ProbeTimeout(probe),
		launchspec.ProbeFailures("startup", probe), launchspec.ProbeFailures("live", probe), launchspec.ProbeSuccesses(probe),
		launchspec.ProbePath(get), launchspec.ProbeScheme(get),
		launchspec.ReadyNotices(s), launchspec.ReadyNotices(&purserv1.LaunchSpec{Probes: &purserv1.Probes{Ready: probe}}),
	}
	want := []any{
		"prod", "other/id", "job", true,
		90 * time.Second, true, 2, time.Duration(0), true, "crun",
		"never", 2 * time.Second, 3 * time.Second,
		0.5, true, int64(256 << 20), true, int64(7),
		"host", "INT", time.Duration(0),
		"tmpfs", int64(1000 * 1000), "never",
		2 * time.Second, 3 * time.Second, 3 * time.Second, 4 * time.Second, 5, 5, 6, "/x", "https",
		time.Duration(0), 23 * time.Second,
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("accessor %d gives %v, want %v", i, got[i], want[i])
		}
	}
}
