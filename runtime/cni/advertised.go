package cni

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The plugin has the node forward packets. Linux ignores router advertisements then, unless
// it is told otherwise (accept_ra, 2), and a node that has its default route from them would
// lose it.

// acceptAdvertised has the interfaces that have a default route from router advertisements
// go on heeding them.
func acceptAdvertised() error {
	table, err := os.Open("/proc/net/ipv6_route")
	if err != nil {
		return nil // there is no IPv6
	}
	defer table.Close()
	for _, link := range advertised(table) {
		path := filepath.Join("/proc/sys/net/ipv6/conf", link, "accept_ra")
		if strings.TrimSpace(string(readFile(path))) != "1" {
			continue
		}
		if err := os.WriteFile(path, []byte("2"), 0); err != nil {
			return fmt.Errorf("having %s heed router advertisements while the node forwards packets: %w", link, err)
		}
	}
	return nil
}

// advertised are the interfaces with a default route from router advertisements, in the
// kernel's table of routes.
func advertised(table io.Reader) []string {
	const anywhere = "00000000000000000000000000000000"
	var links []string
	for lines := bufio.NewScanner(table); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 10 || f[0] != anywhere || f[1] != "00" {
			continue
		}
		flags, err := strconv.ParseUint(f[8], 16, 32)
		if err == nil && flags&unix.RTF_ADDRCONF != 0 && flags&unix.RTF_GATEWAY != 0 {
			links = append(links, f[9])
		}
	}
	return links
}
