package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
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
	now, files := l.last, l.files
	unsynced, current, made := l.unsynced, l.file, l.made
	l.unsynced, l.made = nil, false
	l.mu.Unlock()
	if now == l.sealed || current == nil {
		return nil
	}
	if err := l.sync(unsynced, current, made); err != nil {
		// What the kernel could not write it may have forgotten: a later sync of the
		// same file would say that all is well.
		l.mu.Lock()
		l.fresh = true
		l.mu.Unlock()
		return fmt.Errorf("syncing the audit trail: %w", err)
	}
	if surplus := len(files) - l.options.Files; surplus > 0 && l.verifying.TryLock() {
		defer l.verifying.Unlock()
		now.Oldest = files[surplus]
	}
	if err := l.writeHead(now); err != nil {
		return err
	}
	l.sealed = now
	l.options.Synced()
	return l.drop(now.Oldest)
}

// sync also closes the files that are not written to any more.
func (l *Log) sync(unsynced []*os.File, current *os.File, made bool) error {
	var errs []error
	for _, file := range unsynced {
		errs = append(errs, file.Sync(), file.Close())
	}
	if current != nil {
		errs = append(errs, current.Sync())
	}
	if made {
		errs = append(errs, syncDir(l.dir))
	}
	return errors.Join(errs...)
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
