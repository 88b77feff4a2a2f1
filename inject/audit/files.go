package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	filePrefix = "audit-"
	fileSuffix = ".jsonl"
	// maxSeq is beyond the records that any node writes.
	maxSeq = 1 << 53
)

// fileName is that of the file whose first record has a number.
func fileName(first uint64) string {
	return fmt.Sprintf("%s%012d%s", filePrefix, first, fileSuffix)
}

// firstOf reads a file's name.
func firstOf(name string) (first uint64, ok bool) {
	digits := strings.TrimSuffix(strings.TrimPrefix(name, filePrefix), fileSuffix)
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first < maxSeq && fileName(first) == name
}

func (l *Log) path(first uint64) string { return filepath.Join(l.dir, fileName(first)) }

// list returns the trail's files by their first records, oldest first, and what else
// is in the directory.
func (l *Log) list() (firsts []uint64, strangers []string, err error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the audit trail: %w", err)
	}
	for _, entry := range entries {
		if first, ok := firstOf(entry.Name()); ok && entry.Type().IsRegular() {
			firsts = append(firsts, first)
		} else {
			strangers = append(strangers, entry.Name())
		}
	}
	slices.Sort(firsts)
	return firsts, strangers, nil
}

// open opens a file for reading from an offset up to a size; up to its end for -1.
func (l *Log) open(first uint64, offset, size int64) (io.Reader, func(), error) {
	file, err := os.Open(l.path(first))
	if err != nil {
		return nil, nil, err
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	var r io.Reader = file
	if size >= 0 {
		r = io.LimitReader(file, size-offset)
	}
	return r, func() { file.Close() }, nil
}
