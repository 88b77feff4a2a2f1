package forward

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// TakenError says that a port cannot be had, and who has it.
type TakenError struct {
	Port Port
	// Owner has claimed it; empty when a process has it.
	Owner string
	// PID of the process, and its command; 0 when it cannot be seen.
	PID     int
	Command string
	// Absent: the node does not have the address.
	Absent bool
}

func (e *TakenError) Error() string {
	if e.Absent {
		return fmt.Sprintf("host_ip %s is not an address of the node's", e.Port.HostIP)
	}
	where := "port " + strconv.Itoa(int(e.Port.Host)) + "/" + e.Port.Protocol + " of " + e.where()
	switch {
	case e.Owner != "":
		return where + " is taken by workload " + e.Owner
	case e.PID != 0:
		return fmt.Sprintf("%s is taken by process %d (%s)", where, e.PID, e.Command)
	}
	return where + " is taken by a process that cannot be seen from here"
}

func (e *TakenError) where() string {
	if e.Port.HostIP.IsValid() {
		return "address " + e.Port.HostIP.String()
	}
	return "all addresses"
}

// findProcess finds the process that keeps the port from being bound.
func (e *TakenError) findProcess() {
	pid := processWith("/proc", socketsAt("/proc/net", e.Port.binding()))
	if pid == 0 {
		return
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	e.PID, e.Command = pid, strings.TrimSpace(string(comm))
}

// socketsAt are the inodes of sockets that keep a binding from being had, those that
// listen first: a connection's own end can be in the way, too.
func socketsAt(dir string, b binding) []string {
	var listening, others []string
	for _, table := range []string{b.protocol, b.protocol + "6"} {
		f, err := os.Open(filepath.Join(dir, table))
		if err != nil {
			continue // no IPv6
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			s, ok := parseSocket(lines.Text())
			if !ok || !b.conflicts(s.binding(b)) {
				continue
			}
			if s.listens {
				listening = append(listening, s.inode)
			} else {
				others = append(others, s.inode)
			}
		}
		f.Close()
	}
	return slices.Concat(listening, others)
}

// socketLine is one of /proc/net/tcp and the like.
type socketLine struct {
	local   netip.AddrPort
	listens bool // or is UDP's, that has no peer
	inode   string
}

// binding is what the socket has, as seen from one that is wanted: one of all IPv6
// addresses mostly has those of IPv4 as well.
func (s socketLine) binding(wanted binding) binding {
	ip := s.local.Addr().Unmap()
	if ip == netip.IPv6Unspecified() {
		ip = netip.Addr{}
	}
	return binding{wanted.protocol, ip, s.local.Port()}
}

func parseSocket(line string) (socketLine, bool) {
	words := strings.Fields(line)
	if len(words) < 10 || words[0] == "sl" {
		return socketLine{}, false
	}
	local, ok := parseLocal(words[1])
	const listen, unconnected = "0A", "07" // of enum in linux/tcp_states.h
	return socketLine{local: local, listens: words[3] == listen || words[3] == unconnected, inode: words[9]}, ok && words[9] != "0"
}

// parseLocal reads an address as the kernel prints it: words of 32 bits in the machine's
// order, and the port.
func parseLocal(text string) (netip.AddrPort, bool) {
	ip, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(ip)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(raw, 4) {
		binary.BigEndian.PutUint32(word, binary.NativeEndian.Uint32(word))
	}
	addr, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr, uint16(n)), ok && err == nil
}

// processWith is the process with the lowest ID of those that have the first of these sockets
// that any has; 0 when there is none to be seen.
func processWith(proc string, inodes []string) (found int) {
	for _, pid := range processes(proc) {
		fds, err := os.ReadDir(filepath.Join(proc, strconv.Itoa(pid), "fd"))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			to, _ := os.Readlink(filepath.Join(proc, strconv.Itoa(pid), "fd", fd.Name()))
			if i := slices.Index(inodes, inodeOf(to)); i >= 0 {
				found, inodes = pid, inodes[:i] // only a better one is looked for yet
			}
		}
		if len(inodes) == 0 {
			break
		}
	}
	return found
}

// inodeOf is that of the socket which a descriptor links to, or none.
func inodeOf(link string) string {
	inode, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(inode, "]")
}

func processes(proc string) []int {
	entries, _ := os.ReadDir(proc)
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all
}
