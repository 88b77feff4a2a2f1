//go:build failpoints

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Here passes a step that cannot fail.
func Here(name string) { _ = Error(name) }

// Error passes a step that can fail, and returns its error.
func Error(name string) error {
	action, due := passing(name)
	if !due {
		return nil
	}
	switch action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // no instruction further
	case "hang":
		select {}
	case "error":
		return fmt.Errorf("failpoint %s: %w", name, errInjected)
	}
	panic(fmt.Sprintf("failpoint %s: no action %q", name, action))
}

var errInjected = errors.New("an error as a test wants it")

// passing counts a passing of a step, and says what is due there.
func passing(name string) (action string, due bool) {
	dir := os.Getenv(Variable)
	if dir == "" {
		return "", false
	}
	armed := filepath.Join(dir, name)
	// Taking the file away is what makes each passing count once.
	taken := fmt.Sprintf("%s.%d.taken", armed, syscall.Gettid())
	if os.Rename(armed, taken) != nil {
		return "", false
	}
	data, err := os.ReadFile(taken)
	if err != nil {
		return "", false
	}
	left := 1
	_, _ = fmt.Sscan(string(data), &action, &left)
	if left > 1 {
		_ = os.WriteFile(taken, fmt.Appendf(nil, "%s %d", action, left-1), 0o600)
		_ = os.Rename(taken, armed)
		return "", false
	}
	_ = os.Rename(taken, armed+Hit)
	return strings.TrimSpace(action), true
}
