package forward

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
)

var errTimeout = os.ErrDeadlineExceeded

// usage is what a process has: descriptors, and memory in KiB.
func usage(t *testing.T, pid int) (descriptors, memory int) {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	if words := bytes.Fields(rest); len(words) > 0 {
		memory, _ = strconv.Atoi(string(words[0]))
	}
	return len(all), memory
}
