// Package systemd has the units that `make install` installs.
package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/purserd/purser/e2e/rig"
)

var units = []string{"purser.service", "run-purser-private.mount"}

// settings are those of a unit, as Section.Name.
func settings(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	options, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	all := map[string]string{}
	for _, o := range options {
		all[o.Section+"."+o.Name] = o.Value
	}
	return all
}

// What containers and secrets rely on.
func TestServiceLeavesContainersAlone(t *testing.T) {
	got := settings(t, "purser.service")
	for key, want := range map[string]string{
		"Service.Type": "notify", "Service.NotifyAccess": "main", "Service.KillMode": "process", "Service.Restart": "always",
		"Service.RuntimeDirectoryPreserve": "yes", "Service.Delegate": "yes", "Service.MemorySwapMax": "0",
		"Service.LimitCORE": "infinity", "Unit.StartLimitIntervalSec": "0",
	} {
		if got[key] != want {
			t.Errorf("%s=%s, want %s", key, got[key], want)
		}
	}
	for _, key := range []string{"Unit.Requires", "Unit.BindsTo", "Unit.PartOf"} {
		if got[key] != "" {
			t.Errorf("%s=%s would end the agent with something else", key, got[key])
		}
	}
	// In a mount namespace of its own the agent does not start.
	for key := range got {
		for _, word := range []string{"Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "TemporaryFile", "Bind", "RootDirectory", "Mount"} {
			if strings.HasPrefix(key, "Service."+word) {
				t.Errorf("%s gives the agent a mount namespace of its own", key)
			}
		}
	}
}

func TestMountIsWhatTheAgentWouldMake(t *testing.T) {
	got := settings(t, "run-purser-private.mount")
	options := strings.Split(got["Mount.Options"], ",")
	for _, want := range []string{"noswap", "mode=0700", "nosuid", "nodev", "noexec"} {
		if !slices.Contains(options, want) {
			t.Errorf("Options=%s lacks %s", got["Mount.Options"], want)
		}
	}
	if got["Mount.Where"] != "/run/purser/private" || got["Mount.Type"] != "tmpfs" {
		t.Errorf("got %v", got)
	}
}

// systemd reads the units without complaint.
func TestVerify(t *testing.T) {
	analyze := rig.Program(t, "systemd-analyze", "apt-get install systemd")
	dir := t.TempDir()
	var paths []string
	for _, name := range units {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// It looks whether what is to be executed is there.
		text := strings.ReplaceAll(string(data), "/usr/local/bin/purser", "/bin/true")
		paths = append(paths, filepath.Join(dir, name))
		if err := os.WriteFile(paths[len(paths)-1], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no", "--recursive-errors=no"}, paths...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=85", paths[0]).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
