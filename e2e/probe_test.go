package e2e

import (
	"strings"
	"testing"
)

// What probes find out is what a workload is called, what its events say, and whether
// it goes on; deploy --wait waits for it, and an agent that dies changes nothing.
func TestProbes(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.runWith(canary, "secret", "set", "s", "KEY=-")
		n.deploy(`
app: a
functions:
  - function: f
    image: {ref: `+image+`}
    secrets: [{name: s}]
    command: [sh, -c, 'mkdir /www; sleep 0.5; echo fine >/www/ok; exec httpd -f -p 127.0.0.1:8080 -h /www']
    stop: {grace: 0s}
    restart: {backoff_min: 100ms}
    probes:
      startup: {tcp: {port: 8080}, period: 50ms, failures: 200}
      ready: {http: {port: 8080, path: /ok}, period: 100ms, failures: 1}
      live: {exec: {command: [sh, -c, '! test -e /www/bad || { echo "bad: $KEY"; false; }']}, period: 100ms, failures: 2}
`, "--wait")
		first := n.get("a/f")
		if first.State != "ready" {
			t.Fatalf("deploy --wait returned with %+v", first)
		}
		n.killAgent()
		if w := n.get("a/f"); w.State != "ready" || w.pid() != first.pid() {
			t.Errorf("after the agent's death it is %+v", w)
		}

		n.must("exec", "a/f", "--", "rm", "/www/ok")
		if w := n.await("a/f", "not ready", inState("running")); !strings.Contains(w.Reason, "404") || w.pid() != first.pid() {
			t.Errorf("without what its ready probe asks for: %+v", w)
		}
		const notReady = `purser_workloads_not_ready{environment="dev"}`
		if got := n.metric(notReady); got != "1" {
			t.Errorf("%s workloads are not ready by the metric, want 1", got)
		}
		n.must("exec", "a/f", "--", "sh", "-c", "echo fine >/www/ok")
		n.await("a/f", "ready again", inState("ready"))
		if got := n.metric(notReady); got != "0" {
			t.Errorf("%s workloads are not ready by the metric, want none", got)
		}

		n.must("exec", "a/f", "--", "touch", "/www/bad")
		second := n.await("a/f", "ready anew", func(w workload) bool { return w.State == "ready" && w.pid() != first.pid() })
		if e := second.LastExit; e.Cause != "probe_failed" || !strings.Contains(e.Reason, "bad: [secret:s/KEY]") {
			t.Errorf("last exit %+v", e)
		}
		events := n.must("events")
		for _, want := range []string{"StartedUp", "NotReady", "Ready"} {
			if !strings.Contains(events, want) {
				t.Errorf("there is no event %s:\n%s", want, events)
			}
		}
		if strings.Contains(events, canary) {
			t.Error("an event shows the secret")
		}
		if n.metric(`purser_probe_failures_total{probe="live"}`) == "0" {
			t.Error("no failure is counted")
		}
	})
}

// What has not started up in time is ended, and a job's live probe ends it, too.
func TestProbesThatFailForGood(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.deploy(`
app: a
defaults: {image: {ref: ` + image + `}, stop: {grace: 0s}, command: [sleep, "1000000"]}
functions:
  - function: slow
    probes: {startup: {exec: {command: ["false"]}, period: 50ms, failures: 3}}
    restart: {policy: never}
  - function: job
    kind: job
    probes: {live: {tcp: {port: 1}, period: 50ms, failures: 3}}
`)
		for id, want := range map[string]string{"a/slow": "its startup probe failed", "a/job": "its live probe failed"} {
			w := n.await(id, "failed", inState("failed"))
			if w.LastExit.Cause != "probe_failed" || !strings.Contains(w.LastExit.Reason, want) {
				t.Errorf("%s: %+v", id, w.LastExit)
			}
		}
		text := n.refused("deploy", file(t, "bad.yaml", `
app: b
functions:
  - {function: f, image: {ref: `+image+`}, probes: {ready: {period: 1s}, live: {tcp: {port: 80}, http: {port: 80}}}}
`))
		if !strings.Contains(text, "probes.ready") || !strings.Contains(text, "probes.live") {
			t.Errorf("probes that ask in no way, and in two: %s", text)
		}
	})
}

// pre_stop has its time within the grace, and what it says of a failure is told.
func TestPreStop(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.deploy(`
app: a
defaults: {image: {ref: `+image+`}, command: [sh, -c, 'trap "echo stopped; exit 0" TERM; while :; do sleep 0.05; done']}
functions:
  - {function: f, hooks: {pre_stop: [sh, -c, 'echo leaving >/proc/1/fd/1']}}
  - {function: failing, hooks: {pre_stop: [sh, -c, 'echo no balancer; exit 3']}}
  - {function: hanging, hooks: {pre_stop: [sleep, "1000000"]}, stop: {grace: 500ms}}
`, "--wait")
		n.must("stop", "a/f")
		if out := n.must("logs", "a/f"); out != "leaving\nstopped\n" {
			t.Errorf("it wrote %q", out)
		}
		n.must("stop", "a/failing")
		n.must("stop", "a/hanging")
		events := n.must("events")
		if !strings.Contains(events, "PreStopFailed") || !strings.Contains(events, "no balancer") {
			t.Errorf("events:\n%s", events)
		}
		if !strings.Contains(events, "killed without the signal") {
			t.Errorf("nothing tells of the command that hangs:\n%s", events)
		}
		if w := n.get("a/hanging"); w.LastExit.Code != 137 {
			t.Errorf("last exit %+v", w.LastExit)
		}
	})
}
