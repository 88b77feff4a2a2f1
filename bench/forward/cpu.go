package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// parts are the processes that a byte goes through: two of them when it goes directly. The
// kernel's work for a byte is counted with whoever it is done for, or who is interrupted.
type parts struct{ client, server, forwarder time.Duration }

func (p parts) since(before parts) parts {
	return parts{p.client - before.client, p.server - before.server, p.forwarder - before.forwarder}
}

func (p parts) of(n int) string {
	each := func(d time.Duration) string {
		return fmt.Sprintf("%.0f", float64(d.Milliseconds())/(float64(n)*measureBytes/1e9))
	}
	return "client " + each(p.client) + ", server " + each(p.server) + ", forwarder " + each(p.forwarder)
}

func (p *parts) add(q parts) {
	p.client += q.client
	p.server += q.server
	p.forwarder += q.forwarder
}

// processes are those of the parts.
type processes struct{ client, server, forwarder int }

func (p processes) used() parts {
	return parts{cpuTime(p.client), cpuTime(p.server), cpuTime(p.forwarder)}
}

// tick is the kernel's unit, the same on all machines that Go runs on.
const tick = time.Second / 100

// cpuTime is what a process has used; nothing when it has ended.
func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	user, _ := strconv.Atoi(string(fields[11]))
	system, _ := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * tick
}

// forwarderIn is the process that serves a directory.
func forwarderIn(dir string) (pid int, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		line, _ := os.ReadFile(path)
		if bytes.Contains(line, []byte("port-forwarder\x00")) && bytes.Contains(line, []byte(dir)) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("no port forwarder runs in %s", dir)
}
