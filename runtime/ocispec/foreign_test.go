package ocispec

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Only what no 64-bit architecture of ours has may be left out, by the numbers
// in x/sys, which are made from the kernel's headers.
func TestForeignSystemCalls(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		table, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch+".go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`SYS_(\w+)`).FindAllStringSubmatch(string(table), -1) {
			if name := strings.ToLower(m[1]); foreign[name] {
				t.Errorf("%s has %s", arch, name)
			}
		}
	}
	profile := seccomp.DefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}, Linux: &specs.Linux{}})
	var all []string
	for _, rule := range profile.Syscalls {
		all = append(all, rule.Names...)
	}
	for name := range foreign {
		if !slices.Contains(all, name) {
			t.Errorf("%s is not in the profile", name)
		}
	}
}
