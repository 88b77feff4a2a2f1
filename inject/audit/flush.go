package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject/internal/durable"
)

// patience is the pause after a flush that failed.
const patience = 5 * time.Second

// keepSynced flushes in the background, some time after there was something to flush:
// records that come together share one.
func (l *Log) keepSynced() {
	defer close(l.done)
	for {
		select {
		case <-l.dirty:
		case <-l.closing:
			return
		}
		pause := l.options.Interval
		for !l.flushAfter(pause) {
			pause = patience
		}
	}
}

// flushAfter returns false when the flush is to be tried again.
func (l *Log) flushAfter(pause time.Duration) bool {
	select {
	case <-time.After(pause):
	case <-l.closing:
		return true // Close flushes
	}
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if err := l.flush(); err != nil {
		l.options.Warn(err)
		return false
	}
	return true
}

// flush makes every record durable that is written, first in the files and then in
// the head, and removes files beyond the limit. The caller holds flushing.
func (l *Log) flush() error {
	l.mu.Lock()
	if err := l.appendUnsynced(); err != nil {
		l.mu.Unlock()
		return err
	}
	now, files, lost := l.last, l.files, l.lost
	unsynced, current, made := l.unsynced, l.file, l.made
	l.unsynced, l.made = nil, false
	l.mu.Unlock()
	if now == l.sealed || current == nil {
		return nil
	}
	if err := l.sync(unsynced, current, made); err != nil {
		l.doubt()
		return fmt.Errorf("syncing the audit trail: %w", err)
	}
	failpoint.Here("audit.synced")
	if surplus := l.surplus(files); surplus > 0 && l.verifying.TryLock() {
		defer l.verifying.Unlock()
		now.Oldest = files[surplus]
	}
	if err := l.writeHead(now); err != nil {
		return err
	}
	failpoint.Here("audit.sealed")
	l.sealed = now
	if lost == 0 {
		l.options.Synced()
	}
	return l.drop(now.Oldest)
}

// sync also closes the files that are not written to any more.
func (l *Log) sync(unsynced []*os.File, current *os.File, made bool) error {
	var errs []error
	for _, file := range unsynced {
		errs = append(errs, l.options.sync(file), file.Close())
	}
	errs = append(errs, l.options.sync(current))
	if made {
		errs = append(errs, durable.Sync(l.dir))
	}
	return errors.Join(errs...)
}

// doubt notes that a sync has failed. What the kernel could not write it may have
// forgotten: a later sync of the same file would say that all is well. So no record
// that is not sealed yet counts as synced any more, and their files are done with.
// The caller holds flushing.
func (l *Log) doubt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, file := range l.unsynced { // by a rotation meanwhile
		file.Close()
	}
	l.unsynced, l.fresh = nil, true
	l.doubted = Record{Action: Unsynced, Outcome: Failed, Of: l.sealed.Seq + 1, Count: l.last.Seq - l.sealed.Seq}
}

// appendUnsynced records which records may not be on disk, in a file of its own, so
// that the head can be sealed at a record that is. The caller holds mu.
func (l *Log) appendUnsynced() error {
	if l.doubted.Count == 0 {
		return nil
	}
	r, doubtful := l.doubted, l.file
	r.Why = fmt.Sprintf("the disk failed to sync records %d to %d: a power cut may have lost them", r.Of, r.Of+r.Count-1)
	if err := l.append(r); err != nil {
		return err
	}
	l.doubted = Record{}
	// To sync it once more proves nothing, and may fail for ever.
	l.unsynced = slices.DeleteFunc(l.unsynced, func(f *os.File) bool { return f == doubtful })
	doubtful.Close()
	return nil
}

// surplus is how many of the oldest files are beyond the limit. Neighbours that would
// fit into one count as one: a disk that fails to sync makes many short files, which
// must not push out the full ones.
func (l *Log) surplus(files []uint64) int {
	if len(files) <= l.options.Files {
		return 0
	}
	count, size := 0, l.options.FileSize
	for i, first := range slices.Backward(files) {
		here := int64(0)
		if info, err := os.Lstat(l.path(first)); err == nil {
			here = info.Size()
		}
		if size += here; size > l.options.FileSize {
			count, size = count+1, here
		}
		if count > l.options.Files {
			return i + 1
		}
	}
	return 0
}

// drop removes the files before the oldest that the head has.
func (l *Log) drop(oldest uint64) error {
	l.mu.Lock()
	l.last.Oldest = oldest
	keep, _ := slices.BinarySearch(l.files, oldest)
	dropped := l.files[:keep]
	l.files = l.files[keep:]
	l.mu.Unlock()
	for _, first := range dropped {
		if err := os.Remove(l.path(first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing an old file of the audit trail: %w", err)
		}
	}
	return nil
}
