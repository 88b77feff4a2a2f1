package ocispec

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what of the node decides what a container may be given.
type Host struct {
	// MaxOpenFiles and MaxCore are the highest limits that the node may set:
	// its own hard ones unless it may raise them.
	MaxOpenFiles, MaxCore uint64
	// OOMScoreAdj is the lowest score, from 0 on, that the node may give.
	OOMScoreAdj int
	// CgroupV2 is set when the node has the unified hierarchy alone.
	CgroupV2 bool
	// SwapAccounting is set when the kernel can limit swap by container.
	SwapAccounting bool
}

// capSysResource is the bit of the capability that allows limits to be raised.
const capSysResource = 24

// ReadHost looks at the node through the limits of this process, which are
// taken to be those of containerd.
func ReadHost() (Host, error) {
	raise, err := mayRaise()
	if err != nil {
		return Host{}, fmt.Errorf("reading own capabilities: %w", err)
	}
	h := Host{CgroupV2: cgroupV2(), SwapAccounting: swapAccounting()}
	if h.MaxOpenFiles, err = hardLimit(unix.RLIMIT_NOFILE); err != nil {
		return Host{}, err
	}
	if h.MaxCore, err = hardLimit(unix.RLIMIT_CORE); err != nil {
		return Host{}, err
	}
	if raise {
		h.MaxOpenFiles, h.MaxCore = maxOpenFiles(h.MaxOpenFiles), math.MaxUint64
		return h, nil
	}
	h.OOMScoreAdj, err = ownOOMScore()
	return h, err
}

func mayRaise() (bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(status) {
		if hex, ok := bytes.CutPrefix(line, []byte("CapEff:")); ok {
			caps, err := strconv.ParseUint(string(bytes.TrimSpace(hex)), 16, 64)
			return caps&(1<<capSysResource) != 0, err
		}
	}
	return false, errors.New("/proc/self/status has no CapEff")
}

func hardLimit(which int) (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(which, &l); err != nil {
		return 0, fmt.Errorf("reading own resource limits: %w", err)
	}
	return l.Max, nil
}

// maxOpenFiles is the kernel's bound, which not even privilege gets over.
func maxOpenFiles(otherwise uint64) uint64 {
	data, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return otherwise
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

func ownOOMScore() (int, error) {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("reading own OOM score: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("reading own OOM score: %w", err)
	}
	return max(0, n), nil
}

func cgroupV2() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// swapAccounting looks for the file that the OCI runtime would write. The
// root of a unified hierarchy never has it; any kernel of today does below.
func swapAccounting() bool {
	if !cgroupV2() {
		_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
		return err == nil
	}
	_, err := os.Stat("/proc/swaps")
	return !errors.Is(err, fs.ErrNotExist)
}
