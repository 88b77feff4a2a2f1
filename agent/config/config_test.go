package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestEmptyFileIsValid(t *testing.T) {
	c, err := Parse("config.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket != "/run/purser/purser.sock" || c.Metrics.Address != "127.0.0.1:9755" || c.DefaultRuntime != "runc" {
		t.Errorf("unexpected defaults: %+v", c)
	}
	if c.Secrets.Identity != "/var/lib/purser/identity.age" {
		t.Errorf("identity = %q", c.Secrets.Identity)
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.toml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a named file that is missing gave %v", err)
	}
}

func TestMistakes(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"unknown key":      {"state_dir = '/x'\nnonsense = '/y'", "config.toml:2:1: unknown key nonsense"},
		"misspelt key":     {"sokcet = '/y'", "config.toml:1:1: unknown key sokcet; did you mean socket?"},
		"unknown section":  {"[metrix]\naddress = ':1'", "config.toml:1:2: unknown key metrix; did you mean metrics?"},
		"key of a section": {"[metrics]\nadress = ':1'", "config.toml:2:1: unknown key metrics.adress; did you mean metrics.address?"},
		"key of a runtime": {"[runtimes.crun]\npth = 'x'", "config.toml:2:1: unknown key runtimes.crun.pth; did you mean runtimes.crun.path?"},
		"wrong type":       {"socket = 5", "config.toml:1:10: "},
		"relative":         {"state_dir = 'here'", `state_dir: "here" is not an absolute path`},
		"relative root":    {"allowed_roots = ['/a', 'b']", `allowed_roots: "b" is not an absolute path`},
		"relative devices": {"cdi_spec_dirs = ['cdi']", `cdi_spec_dirs: "cdi" is not an absolute path`},
		"syntax":           {"state_dir = ", "config.toml:1:"},
		"long socket":      {"socket = '/" + strings.Repeat("a", 120) + "'", "107 at most"},
		"runtime path":     {"[runtimes.crun]", "runtimes.crun.path: missing"},
		"default runtime":  {"default_runtime = 'crun'", "no [runtimes.crun] is configured"},
		"namespace":        {"[containerd]\nnamespace = 'a b'", "is not a containerd namespace"},
		"sharing shims":    {"[containerd]\nshim_sharing = 'node'", `containerd.shim_sharing: "node" is neither none nor app`},
		"metrics address":  {"[metrics]\naddress = 'nine'", "is not host:port"},
		"high":             {"[images]\ngc_high = 101", "images.gc_high: 101 is not a percentage"},
		"low over high":    {"[images]\ngc_high = 50\ngc_low = 60", "images.gc_low: 60 is not a percentage from 0 to gc_high, 50"},
		"age":              {"[images]\ngc_min_age = 'a day'", "is not a duration such as 90s or 1h30m"},
		"max age":          {"[images]\ngc_min_age = '1h'\ngc_max_age = '30m'", "images.gc_max_age: 30m0s is less than gc_min_age, 1h0m0s"},
		"negative age":     {"[images]\ngc_min_age = '-1h'", "is not a duration"},
		"certs":            {"[images]\ncerts_dir = 'certs.d'", "images.certs_dir: \"certs.d\" is not an absolute path"},
		"hasty sweeps":     {"[sweep]\nperiod = '10ms'", "sweep.period: 10ms is less than a second"},
		"audit size":       {"[audit]\nfile_size = 'big'", "is not a size such as"},
		"small audit":      {"[audit]\nfile_size = '1Ki'", "audit.file_size: must be 64Ki to 1Gi"},
		"one audit file":   {"[audit]\nfiles = 1", "audit.files: must be 2 to 10000"},
		"keeping versions": {"[secrets]\nkeep_versions = 0", "must be 1 or more"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("config.toml", []byte(tc.in))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to contain %q", err, tc.want)
			}
		})
	}
}

func TestSoleRuntimeIsTheDefault(t *testing.T) {
	c, err := Parse("config.toml", []byte("[runtimes.crun]\npath = '/usr/bin/crun'"))
	if err != nil {
		t.Fatal(err)
	}
	if c.DefaultRuntime != "crun" {
		t.Errorf("default runtime = %q", c.DefaultRuntime)
	}
}
