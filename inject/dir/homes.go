package dir

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// home is what a directory is on.
type home struct {
	major, minor uint32
	mount        uint64 // 0 before Linux 5.8
}

func homeOf(path string) (home, error) {
	var s unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &s); err != nil {
		return home{}, fmt.Errorf("looking at %s: %w", path, err)
	}
	h := home{major: s.Dev_major, minor: s.Dev_minor}
	if s.Mask&unix.STATX_MNT_ID != 0 {
		h.mount = s.Mnt_id
	}
	return h, nil
}

// homes are what directories were on when secrets were last found in them. An empty one
// that is on something else is what is left when the secrets were unmounted, or was
// mounted over them: neither says that they are gone.
type homes struct {
	mu sync.Mutex
	of map[string]home
}

// found notes that a directory has a secret.
func (h *homes) found(path string) {
	now, err := homeOf(path)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of[path] = now
}

// bare is the error for a directory that has nothing at all and may not be the one that
// had secrets.
func (h *homes) bare(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !leftAlone(e.Name()) }) {
		return err
	}
	now, err := homeOf(path)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if before, known := h.of[path]; known && before != now {
		return fmt.Errorf("%s has nothing, and is not on what its secrets were on: mount that again, or start the agent anew if they are to be gone", path)
	}
	return nil
}
