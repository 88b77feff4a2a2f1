package runtime

import (
	"fmt"
	"os"
	"strings"
)

// Boot identifies the present boot of the node: a random UUID that the kernel makes.
func Boot() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("finding out which boot of the node this is: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
