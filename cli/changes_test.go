package cli

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestSpecChanges(t *testing.T) {
	long := strings.Repeat("x", 100)
	for name, test := range map[string]struct{ old, now, want string }{
		"none":            {`{"app": "a", "env": {"K": "v"}}`, `{"app": "a", "env": {"K": "v"}}`, ""},
		"scalars":         {`{"kind": "job", "retries": 2}`, `{"kind": "job", "retries": 3, "timeout": "3s"}`, "timeout: (none) → 3s; retries: 2 → 3"},
		"nested":          {`{"image": {"ref": "a:1"}}`, `{"image": {"ref": "a:2"}}`, "image.ref: a:1 → a:2"},
		"variables":       {`{"env": {"A": "1", "B": "2", "D": "4"}}`, `{"env": {"B": "3", "C": "", "D": "4"}}`, `env.A: 1 → (none); env.B: 2 → 3; env.C: (none) → ""`},
		"command":         {`{"command": ["sh", "-c", "echo a"]}`, `{"command": ["sh", "-c", "echo b"]}`, `command: [sh, -c, "echo a"] → [sh, -c, "echo b"]`},
		"secret in front": {`{"secrets": [{"name": "b", "version": 1}]}`, `{"secrets": [{"name": "a"}, {"name": "b", "version": 2}]}`, "secrets[a].name: (none) → a; secrets[b].version: 1 → 2"},
		"mounts":          {`{"mounts": [{"target": "/a", "source": "/x"}]}`, `{"mounts": [{"target": "/a", "source": "y", "type": "volume"}]}`, "mounts[/a].type: (none) → volume; mounts[/a].source: /x → y"},
		"empty group":     {`{}`, `{"restart": {}}`, "restart: (none) → {}"},
		"control":         {`{"env": {"A": "x"}}`, `{"env": {"A": "\u001b[31m"}}`, `env.A: x → "\x1b[31m"`},
		"long": {`{"env": {"A": "` + long + `1` + long + `"}}`, `{"env": {"A": "` + long + `2` + long + `"}}`,
			"env.A: …" + long[:15] + "1" + long[:44] + "… → …" + long[:15] + "2" + long[:44] + "…"},
	} {
		var got []string
		for _, c := range specChanges(specOf(t, test.old), specOf(t, test.now)) {
			old, now := c.clipped()
			got = append(got, fmt.Sprintf("%s: %s → %s", c.field, old, now))
		}
		if text := strings.Join(got, "; "); text != test.want {
			t.Errorf("%s: %s\nwant %s", name, text, test.want)
		}
	}
}

func specOf(t *testing.T, text string) *purserv1.LaunchSpec {
	t.Helper()
	spec := &purserv1.LaunchSpec{}
	if err := protojson.Unmarshal([]byte(text), spec); err != nil {
		t.Fatal(err)
	}
	return spec
}
