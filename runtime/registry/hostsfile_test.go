package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What containerd documents is taken; everything else is named by line and key,
// instead of being passed over on the way to another host.
func TestHostsFile(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"server = \"https://r.example\"\n[host.\"http://127.0.0.1:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n" +
			"  override_path = true\n  dial_timeout = \"3s\"\n  [host.\"http://127.0.0.1:5000\".header]\n  x-a = \"1\"\n  x-b = [\"2\", \"3\"]\n": "",
		"skip_verify = \"yes\"":                            "line 1: skip_verify: ",
		"[host.\"https://a\"]\nskip_verify = \"yes\"":      "line 2: skip_verify: ",
		"capabilities = \"pull\"":                          "line 1: capabilities: ",
		"\n[host.\"https://a\"]\ncapabilities = [\"pul\"]": "line 3: capabilities has \"pul\": there are pull, resolve, push and referrers",
		"[host.\"https://a\"]\ncapabilites = [\"pull\"]":   "line 2: capabilites is no setting of a host",
		"servr = \"https://a\"":                            "line 1: servr is no setting of a host",
		"ca = \"/nope.pem\"":                               "line 1: ca cannot be read: open /nope.pem: no such file or directory",
		"ca = 1":                                           "line 1: ca must be a file of certificates",
		"client = [[\"a\", \"b\", \"c\"]]":                 "line 1: client must be a file, a list of files, or a list of pairs",
		"client = \"nope.pem\"":                            "line 1: client cannot be used: open ",
		"dial_timeout = \"soon\"":                          "line 1: dial_timeout is \"soon\"",
		"[header]\nx-a = 1":                                "line 1: header has for x-a neither",
		"server = \"https://\"":                            "line 1: server is no host",
		"server = ":                                        "line 1: ",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readHosts(dir)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), "hosts.toml") || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
