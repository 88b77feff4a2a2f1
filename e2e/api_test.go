package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// post calls the API as JSON over HTTP/1 with curl.
func (n *node) post(method, body string) (answer string, status string) {
	n.t.Helper()
	r := finish(n.t, exec.Command("curl", "-sS", "--unix-socket", strings.TrimPrefix(n.host, "unix://"),
		"-H", "content-type: application/json", "-d", body, "-w", "\n%{http_code}", "http://purser/purser.v1."+method))
	if r.code != 0 {
		n.t.Fatalf("curl: %s", r.stderr)
	}
	at := strings.LastIndex(r.stdout, "\n")
	return r.stdout[:at], r.stdout[at+1:]
}

// curl calls a streaming method and returns its messages as they come. The
// stream ends with the test.
func curl(t *testing.T, n *node, method, body string) <-chan []byte {
	t.Helper()
	envelope := append([]byte{0}, binary.BigEndian.AppendUint32(nil, uint32(len(body)))...)
	cmd := exec.CommandContext(within(t, patience), "curl", "-sSN", "--unix-socket", strings.TrimPrefix(n.host, "unix://"),
		"-H", "content-type: application/connect+json", "--data-binary", "@-", "http://purser/purser.v1."+method)
	cmd.Stdin = bytes.NewReader(append(envelope, body...))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	messages := make(chan []byte, 1024)
	go func() {
		defer close(messages)
		defer cmd.Wait()
		for {
			var head [5]byte
			if _, err := io.ReadFull(out, head[:]); err != nil || head[0]&2 != 0 {
				return
			}
			m := make([]byte, binary.BigEndian.Uint32(head[1:]))
			if _, err := io.ReadFull(out, m); err != nil {
				return
			}
			messages <- m
		}
	}()
	return messages
}

func TestJSON(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		if answer, status := n.post("Workloads/List", "{}"); status != "200" || !strings.Contains(answer, `"workloads":[]`) {
			t.Errorf("List: %s %s", status, answer)
		}
		spec := `{"app": "a", "function": "f", "image": {"ref": "` + image + `"}, "command": ["sleep", "1000"], "stop": {"grace": "0s"}}`
		answer, status := n.post("Workloads/Launch", `{"spec": `+spec+`, "generation": 5}`)
		if status != "200" || !strings.Contains(answer, `"changed":true`) {
			t.Errorf("Launch: %s %s", status, answer)
		}
		if answer, status = n.post("Workloads/Launch", `{"spec": `+spec+`, "generation": 5}`); status != "200" || !strings.Contains(answer, `"changed":false`) {
			t.Errorf("the same again: %s %s", status, answer)
		}
		for name, tc := range map[string]struct{ method, body, code, text string }{
			"an older generation": {"Workloads/Launch", `{"spec": ` + spec + `, "generation": 4}`, "failed_precondition", "generation"},
			"unknown field":       {"Workloads/Launch", `{"spec": {"app": "a", "function": "f", "imag": {}}}`, "invalid_argument", "imag"},
			"repeated field":      {"Workloads/Get", `{"id": "a/f", "id": "a/g"}`, "invalid_argument", "id"},
			"wrong type":          {"Workloads/Get", `{"id": 7}`, "invalid_argument", "id"},
			"rule":                {"Workloads/Launch", `{"spec": {"app": "a b", "function": "f", "image": {"ref": "x"}}}`, "invalid_argument", "spec.app"},
			"reserved variable":   {"Workloads/Launch", `{"spec": {"app": "a", "function": "f", "image": {"ref": "x"}, "env": {"PURSER_X": "1"}}}`, "invalid_argument", "PURSER_"},
			"no such workload":    {"Workloads/Get", `{"id": "a/none"}`, "not_found", "a/none"},
			"missing ID":          {"Workloads/Get", `{}`, "invalid_argument", "id"},
			"no such image":       {"Workloads/Launch", `{"spec": {"app": "a", "function": "g", "image": {"ref": "localhost/none:1"}}}`, "failed_precondition", "localhost/none:1"},
			"no such runtime":     {"Workloads/Launch", `{"spec": {"app": "a", "function": "g", "image": {"ref": "` + image + `"}, "runtime": "none"}}`, "failed_precondition", "none"},
			"mount not allowed":   {"Workloads/Launch", `{"spec": {"app": "a", "function": "g", "image": {"ref": "` + image + `"}, "mounts": [{"source": "/etc", "target": "/x"}]}}`, "failed_precondition", "allowed_roots"},
		} {
			answer, _ := n.post(tc.method, tc.body)
			var e struct{ Code, Message string }
			if err := json.Unmarshal([]byte(answer), &e); err != nil || e.Code != tc.code || !strings.Contains(e.Message, tc.text) {
				t.Errorf("%s: want %s with %q, got %s", name, tc.code, tc.text, answer)
			}
		}
		if answer, status = n.post("Workloads/Remove", `{"id": "a/f", "force": true}`); status != "200" {
			t.Errorf("Remove: %s %s", status, answer)
		}
	})
}

func TestGRPC(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		grpcurl := func(args ...string) string {
			t.Helper()
			args = append([]string{"-plaintext", "-unix"}, args...)
			r := finish(t, exec.Command(rig.GRPCurl(t), args...))
			if r.code != 0 {
				t.Errorf("grpcurl %v: %s", args, r.stderr)
			}
			return r.stdout
		}
		socket := strings.TrimPrefix(n.host, "unix://")
		if out := grpcurl(socket, "list"); !strings.Contains(out, "purser.v1.Workloads") || !strings.Contains(out, "grpc.health.v1.Health") {
			t.Errorf("list: %s", out)
		}
		if out := grpcurl(socket, "describe", "purser.v1.LaunchSpec"); !strings.Contains(out, "repeated .purser.v1.SecretRef secrets") {
			t.Errorf("describe: %s", out)
		}
		if out := grpcurl(socket, "grpc.health.v1.Health/Check"); !strings.Contains(out, "SERVING") {
			t.Errorf("health: %s", out)
		}
		if out := grpcurl(socket, "purser.v1.Images/List"); !strings.Contains(out, image) {
			t.Errorf("Images/List: %s", out)
		}
		n.deploySleeper()
		if out := grpcurl("-d", `{"start": {"id": "a/f", "command": ["echo", "hello"]}}`, socket, "purser.v1.Workloads/Exec"); !strings.Contains(out, "aGVsbG8K") || !strings.Contains(out, `"exit"`) {
			t.Errorf("Exec: %s", out)
		}
	})
}

func TestMetrics(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.deploySleeper()
		n.run("run", "--image", image, "--", "false")
		scrape := finish(t, exec.Command("curl", "-sS", n.metrics)).stdout
		for _, want := range []string{
			`purser_workloads{environment="dev",state="running"} 1`,
			`purser_secret_version{environment="dev",secret="s",state="current"} 1`,
			`purser_launch_duration_seconds_count{phase="total",result="ok"} 2`,
			`purser_workload_memory_bytes{app="a",environment="dev",function="f"}`,
			`purser_workload_cpu_seconds_total{app="a",environment="dev",function="f"}`,
			`purser_restarts_total{reason="exited"} 0`,
			`purser_build_info{`, `process_cpu_seconds_total`, `go_goroutines`,
		} {
			if !strings.Contains(scrape, "\n"+want) {
				t.Errorf("%s is not in the scrape", want)
			}
		}
		check := exec.Command("promtool", "check", "metrics")
		check.Stdin = strings.NewReader(scrape)
		if r := finish(t, check); r.code != 0 || r.stderr != "" {
			t.Errorf("promtool: %s%s", r.stdout, r.stderr)
		}
	})
}

// After a busy time the agent has no more goroutines than before.
func TestNoGoroutinesLeft(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		goroutines := func() string {
			out := finish(t, exec.Command("curl", "-sS", n.metrics)).stdout
			_, rest, _ := strings.Cut(out, "\ngo_goroutines ")
			count, _, _ := strings.Cut(rest, "\n")
			return count
		}
		n.run("run", "--image", image, "--", "true")
		goroutines()
		before := goroutines()
		for range 5 {
			n.run("run", "--image", image, "--", "true")
		}
		n.deploySleeper()
		n.must("exec", "a/f", "--", "true")
		n.must("rm", "a/f")
		n.eventually("goroutines to be as many as before", func() bool {
			now := goroutines()
			return len(now) < len(before) || len(now) == len(before) && now <= before
		})
	})
}
