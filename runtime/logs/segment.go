package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Position is a place in a log, between two records.
type Position struct {
	// Segment is its number, 0 before the first.
	Segment int
	// Offset in bytes from the segment's start.
	Offset int64
}

// suffix of segments' names, before which there is the number.
const suffix = ".log"

func segmentPath(dir string, n int) string {
	return filepath.Join(dir, strconv.Itoa(n)+suffix)
}

// segments returns the numbers of those in a directory, the oldest first. Of a
// directory that is not there, there are none.
func segments(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []int
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
			if n, err := strconv.Atoi(name); err == nil && n > 0 {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// complete is the mode of the newest segment of a log that has ended. To change a
// mode needs no room on the disk.
const complete = 0o400

// endSegments marks a log as complete.
func endSegments(dir string) error {
	all, err := segments(dir)
	if err != nil || len(all) == 0 {
		return err
	}
	if err := os.Chmod(segmentPath(dir, all[len(all)-1]), complete); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("marking a log as complete: %w", err)
	}
	return nil
}

// ended says whether nothing is going to be added to a log.
func ended(dir string) (bool, error) {
	all, err := segments(dir)
	if err != nil || len(all) == 0 {
		return err == nil, err
	}
	info, err := os.Stat(segmentPath(dir, all[len(all)-1]))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // the log is being removed, or is ahead of us
	}
	if err != nil {
		return false, err
	}
	return info.Mode().Perm()&0o200 == 0, nil
}

// wholeRecords returns how much of the file is whole records: up to and
// including its last newline.
func wholeRecords(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	block := make([]byte, 32<<10)
	for end := info.Size(); end > 0; {
		start := max(0, end-int64(len(block)))
		n, err := f.ReadAt(block[:end-start], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}
