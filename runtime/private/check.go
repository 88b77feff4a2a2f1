package private

import (
	"fmt"
	"path/filepath"
)

// Check fails unless memory that is never swapped is mounted on dir; see [Mount].
func Check(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("finding the private directory: %w", err)
	}
	mounted, err := find("/proc/self/mountinfo", dir)
	switch {
	case err != nil:
		return err
	case mounted == nil:
		return fmt.Errorf("nothing is mounted on the private directory %s any more: restart the agent", dir)
	case !unswapped(mounted):
		return fmt.Errorf("something is mounted on the private directory %s that may reach a disk: %s; unmount it", dir, mounted.FSType)
	}
	return nil
}
