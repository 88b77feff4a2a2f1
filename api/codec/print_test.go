package codec_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/purserd/purser/api/codec"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func sample() *purserv1.ListResponse {
	return &purserv1.ListResponse{Workloads: []*purserv1.Workload{{
		Environment: "dev", Id: "a/f", Generation: 3, Since: &timestamppb.Timestamp{Seconds: 1_700_000_000},
		Spec: &purserv1.LaunchSpec{App: proto.String("a"), Env: map[string]string{"B": "true", "A": "line\nline", "C": "\x7f 8080"}, ReadOnlyRoot: proto.Bool(false)},
	}}}
}

func TestMarshalJSON(t *testing.T) {
	got, err := codec.MarshalJSON(sample())
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "workloads": [
    {
      "environment": "dev",
      "id": "a/f",
      "spec": {
        "app": "a",
        "command": [],
        "args": [],
        "env": {
          "A": "line\nline",
          "B": "true",
          "C": "` + "\x7f" + ` 8080"
        },
        "secrets": [],
        "mounts": [],
        "read_only_root": false,
        "labels": {}
      },
      "generation": "3",
      "observed_generation": "0",
      "state": "",
      "reason": "",
      "since": "2023-11-14T22:13:20Z",
      "pins": [],
      "instances": [],
      "restarts": 0
    }
  ]
}
`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
}

func TestMarshalYAML(t *testing.T) {
	got, err := codec.MarshalYAML(sample())
	if err != nil {
		t.Fatal(err)
	}
	want := `workloads:
  - environment: dev
    id: a/f
    spec:
      app: a
      command: []
      args: []
      env:
        A: |-
          line
          line
        B: "true"
        C: "\x7F 8080"
      secrets: []
      mounts: []
      read_only_root: false
      labels: {}
    generation: "3"
    observed_generation: "0"
    state: ""
    reason: ""
    since: "2023-11-14T22:13:20Z"
    pins: []
    instances: []
    restarts: 0
`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
}

func TestMarshalInvalidText(t *testing.T) {
	m := &purserv1.ListRequest{App: "\xff"}
	if _, err := codec.MarshalJSON(m); err == nil || !strings.Contains(err.Error(), "writing purser.v1.ListRequest as JSON") {
		t.Errorf("got %v", err)
	}
	if _, err := codec.MarshalYAML(m); err == nil || !strings.Contains(err.Error(), "writing purser.v1.ListRequest as YAML") {
		t.Errorf("got %v", err)
	}
}

// What is printed as a spec, in either form, reads back as the same spec.
func TestPrintedSpecsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		s := &purserv1.LaunchSpec{
			App: proto.String("a"), Function: proto.String("f"), Image: &purserv1.Image{Ref: proto.String("b")},
			Command:   rapid.SliceOfN(text.Filter(noNUL), 0, 3).Draw(t, "command"),
			Env:       rapid.MapOfN(rapid.StringMatching(`[A-Z]{1,3}`), text.Filter(noNUL), 0, 3).Draw(t, "env"),
			Resources: &purserv1.Resources{Cpu: proto.Float64(rapid.Float64Range(0.01, 4096).Draw(t, "cpu")), Pids: proto.Uint32(rapid.Uint32Range(1, 4194304).Draw(t, "pids"))},
			Stdin:     proto.Bool(rapid.Bool().Draw(t, "stdin")),
		}
		for _, marshal := range []func(proto.Message) ([]byte, error){codec.MarshalJSON, codec.MarshalYAML} {
			printed, err := marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			file, err := launchspec.Parse("printed", printed, func(string) (string, bool) { return "", false })
			if err != nil {
				t.Fatalf("%s\n%v", printed, err)
			}
			if !proto.Equal(file.Specs[0], s) {
				t.Fatalf("%s\ngot %v", printed, protojson.Format(file.Specs[0]))
			}
		}
	})
}

// noNUL also leaves out what would be expanded.
func noNUL(s string) bool { return !strings.ContainsAny(s, "\x00$") }
