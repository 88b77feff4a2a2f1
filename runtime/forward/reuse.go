package forward

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// reuseSetting tells the kernel that a port of ours may be used again, by a connection to the
// same peer, a second after the one before it has been closed, and not only after a minute.
// (tcp_tw_reuse, ip-sysctl.rst: 0 for never, 1 for connections that we open, 2 for those on
// the loopback interface, which is the kernel's default. The peers know the two apart by
// their timestamps.)
const reuseSetting = "/proc/sys/net/ipv4/tcp_tw_reuse"

// allowReuse sets it for the network namespace: the ports that there are would be used up
// by some 470 connections a second to one instance, each of which leaves one waiting.
func allowReuse() error {
	there, err := os.ReadFile(reuseSetting)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && strings.TrimSpace(string(there)) != "1" {
		err = os.WriteFile(reuseSetting, []byte("1"), 0)
	}
	if err != nil {
		return fmt.Errorf("allowing ports to be used again soon (some 470 new connections a second are the most to one instance): %w", err)
	}
	return nil
}
