package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/agent"
	"github.com/purserd/purser/agent/config"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/purser/v1/purserv1connect"
	"github.com/purserd/purser/e2e/rig"
)

// testNode is a node whose API is there, without containerd.
type testNode struct {
	dir     string
	http    *http.Client
	audit   purserv1connect.AuditClient
	secrets purserv1connect.SecretsClient
	agent   *agent.Agent
}

func newTestNode(t *testing.T, settings string, options ...connect.ClientOption) *testNode {
	t.Helper()
	rig.Root(t) // to mount the private directory
	dir := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "run/private"), unix.MNT_DETACH) })
	cfg, err := config.Parse("test", []byte(settings))
	if err != nil {
		t.Fatal(err)
	}
	cfg.StateDir, cfg.RunDir, cfg.Socket = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "p.sock")
	cfg.Secrets.Identity = filepath.Join(dir, "identity.age")
	cfg.Wrapper = "/bin/true" // nothing is launched
	cfg.Network.DefaultMode = "none"
	cfg.Containerd.Address = filepath.Join(dir, "containerd.sock")
	a, err := agent.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := listenUnix(cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(l, handler(a, ""))
	t.Cleanup(func() {
		s.end()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(len(options) > 0)
	protocols.SetHTTP1(len(options) == 0)
	transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", cfg.Socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	hc := &http.Client{Transport: transport}
	return &testNode{dir: dir, http: hc, agent: a,
		audit:   purserv1connect.NewAuditClient(hc, "http://purser", options...),
		secrets: purserv1connect.NewSecretsClient(hc, "http://purser", options...),
	}
}

// records are those of the trail after a number.
func (n *testNode) records(t *testing.T, after uint64) []*purserv1.AuditRecord {
	t.Helper()
	stream, err := n.audit.Tail(t.Context(), connect.NewRequest(&purserv1.TailRequest{After: after}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var all []*purserv1.AuditRecord
	for stream.Receive() {
		all = append(all, stream.Msg().GetRecord())
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	return all
}

// post sends a request as it stands.
func (n *testNode) post(t *testing.T, call, body string) int {
	t.Helper()
	response, err := n.http.Post("http://purser/purser.v1."+call, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

const value = "value-Zk7Qm2Xp9Lr4"

func put(name, key string) *connect.Request[purserv1.PutRequest] {
	return connect.NewRequest(&purserv1.PutRequest{Name: name, Data: map[string][]byte{key: []byte(value)}})
}

// Changes of secrets are recorded with the caller, before they are made and after.
func TestChangesAreRecorded(t *testing.T) {
	for name, options := range map[string][]connect.ClientOption{
		"HTTP/1": nil, "gRPC": {connect.WithGRPC()}, "HTTP/2": {connect.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t, "", options...)
			for range 2 {
				if _, err := n.secrets.Put(t.Context(), put("db", "KEY")); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := n.secrets.Delete(t.Context(), connect.NewRequest(&purserv1.DeleteRequest{Name: "db"})); err != nil {
				t.Fatal(err)
			}
			got := n.records(t, 1)
			var story []string
			for i, r := range got {
				story = append(story, r.GetAction()+" "+r.GetOutcome())
				if c := r.GetCaller(); int(c.GetUid()) != os.Getuid() || int(c.GetPid()) != os.Getpid() || !strings.HasSuffix(c.GetProgram(), "server.test") {
					t.Errorf("caller %v", c)
				}
				if i%2 == 1 && r.GetOf() != got[i-1].GetSeq() {
					t.Errorf("record %d is of %d", r.GetSeq(), r.GetOf())
				}
			}
			if want := []string{"set begun", "set done", "set begun", "set unchanged", "delete begun", "delete done"}; !slices.Equal(story, want) {
				t.Fatalf("got %q", story)
			}
			if s := got[1].GetSecrets()[0]; s.GetName() != "db" || s.GetVersion() != 1 || !slices.Equal(s.GetKeys(), []string{"KEY"}) || got[1].GetEnvironment() != "dev" {
				t.Errorf("got %v", got[1])
			}
			if r, err := n.audit.Verify(t.Context(), connect.NewRequest(&purserv1.VerifyRequest{})); err != nil || !r.Msg.GetOk() || r.Msg.GetRecords() != 7 {
				t.Errorf("got %v, %v", r, err)
			}
		})
	}
}

// What is refused is recorded once, whoever refuses it, and nothing of what a request
// has in the wrong place.
func TestRefusedCallsAreRecorded(t *testing.T) {
	for name, c := range map[string]struct {
		call, body string
		want       string // action, outcome, code, what is wrong
		records    int
	}{
		"a rule":           {"Secrets/Put", `{"name": "` + value + `!", "data": {"K": "eA=="}}`, "refused refused invalid_argument fields: name", 1},
		"a key of a map":   {"Secrets/Put", `{"name": "db", "data": {"` + value + `": "eA=="}}`, "refused refused invalid_argument fields: data[]", 1},
		"an unknown field": {"Secrets/Put", `{"name": "db", "` + value + `": 1}`, "refused refused invalid_argument the request could not be read", 1},
		"no JSON":          {"Secrets/Delete", value, "refused refused invalid_argument the request could not be read", 1},
		"no such secret":   {"Secrets/Describe", `{"name": "none"}`, "refused refused not_found ", 1},
		"by the store":     {"Secrets/Put", `{"name": "db", "remove": ["` + value + `"]}`, "refused refused invalid_argument fields: remove", 1},
		"not there":        {"Secrets/Rollback", `{"name": "none"}`, "refused refused not_found ", 1},
		"no such workload": {"Workloads/Restart", `{"id": "a/none"}`, "refused refused not_found ", 1},
		"a wrong launch":   {"Workloads/Launch", `{"spec": {"app": "a", "function": "f"}}`, "refused refused invalid_argument fields: spec.image", 1},
		"not of secrets":   {"Workloads/Get", `{"id": "a/none"}`, "", 0},
		"nothing wrong":    {"Secrets/List", `{}`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t, "")
			n.post(t, c.call, c.body)
			got := n.records(t, 1)
			if len(got) != c.records {
				t.Fatalf("got %v", got)
			}
			if len(got) > 0 {
				r := got[len(got)-1]
				if text := strings.Join([]string{r.GetAction(), r.GetOutcome(), r.GetCode(), r.GetWhy()}, " "); text != c.want || r.GetCall() != c.call || int(r.GetCaller().GetPid()) != os.Getpid() {
					t.Errorf("got %v", r)
				}
			}
			files, _ := filepath.Glob(filepath.Join(n.dir, "state/audit/*"))
			for _, file := range files {
				if data, err := os.ReadFile(file); err != nil || strings.Contains(string(data), value) {
					t.Errorf("%v: the trail has what should be elsewhere: %s", err, data)
				}
			}
		})
	}
}

// Who follows the trail sees what is there and what comes, of the environment asked
// for alone.
func TestFollowingTheTrail(t *testing.T) {
	n := newTestNode(t, "")
	change := func() {
		t.Helper()
		for _, environment := range []string{"dev", "prod"} {
			r := put("db", "KEY")
			r.Msg.Environment = environment
			if _, err := n.secrets.Put(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	change()
	stream, err := n.audit.Tail(t.Context(), connect.NewRequest(&purserv1.TailRequest{Follow: true, Environment: "prod"}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for i, outcome := range []string{"begun", "done", "begun", "unchanged"} {
		if i == 2 {
			change()
		}
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		if r := stream.Msg().GetRecord(); r.GetEnvironment() != "prod" || r.GetOutcome() != outcome {
			t.Errorf("got %v, want %s", r, outcome)
		}
	}
}

// A client that calls in vain does not fill the trail.
func TestManyRefusedCalls(t *testing.T) {
	n := newTestNode(t, "")
	if _, err := n.secrets.Put(t.Context(), put("db", "KEY")); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		for call, body := range map[string]string{
			"Secrets/Describe": `{"name": "none"}`, "Secrets/Put": `{"name": "db", "remove": ["NONE"]}`, "Secrets/Rollback": `{"name": "db", "version": 7}`,
		} {
			if status := n.post(t, call, body); status == http.StatusOK {
				t.Fatalf("%s is not refused", call)
			}
		}
	}
	if got := n.records(t, 3); len(got) != 10 {
		t.Errorf("%d records", len(got))
	}
}

// Without a record no secret is changed, unless the configuration says so.
func TestNoChangeWithoutARecord(t *testing.T) {
	for settings, closed := range map[string]bool{"": true, "[audit]\nfail_closed = false": false} {
		n := newTestNode(t, settings)
		// Nothing can be made in a directory that is gone.
		dir := filepath.Join(n.dir, "state/audit")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		_, err := n.secrets.Put(t.Context(), put("db", "KEY"))
		if refused := connect.CodeOf(err) == connect.CodeFailedPrecondition && strings.Contains(err.Error(), "fail_closed"); refused != closed || err != nil != closed {
			t.Errorf("fail_closed %v: got %v", closed, err)
		}
		_, err = n.secrets.Describe(t.Context(), connect.NewRequest(&purserv1.DescribeRequest{Name: "db"}))
		if there := err == nil; there == closed {
			t.Errorf("fail_closed %v: the secret is there: %v", closed, there)
		}
		var kinds []string
		if err := n.agent.Events(t.Context(), &purserv1.EventsRequest{}, func(e *purserv1.Event) error {
			kinds = append(kinds, e.GetType())
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if count := len(slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return kind != "AuditFailing" })); count != 1 || !slices.Contains(kinds, "AuditDamaged") {
			t.Errorf("events %v", kinds)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnitOf(t *testing.T) {
	for cgroups, want := range map[string]string{
		"0::/system.slice/scheduler.service\n":                      "scheduler.service",
		"0::/system.slice/scheduler.service/sub/group\n":            "scheduler.service",
		"12:cpu:/x.service\n1:name=systemd:/user.slice/s-1.scope\n": "s-1.scope",
		"12:cpu:/x.service\n":                                       "",
		"0::/\n":                                                    "", "": "", "0::/a": "", "nonsense": "", "0::relative": "",
	} {
		if got := unitOf(cgroups); got != want {
			t.Errorf("%q: got %q, want %q", cgroups, got, want)
		}
	}
}
