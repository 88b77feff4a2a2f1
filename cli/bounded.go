package cli

import (
	"fmt"
	"io"
	"os"
)

// The most that is read of what a user names. The agent takes no more, and all that is
// read is kept from the disk, which takes memory from the node.
const (
	maxSecretSource = 1 << 20 // a secret is 1 MiB at most
	maxSpecSource   = 4 << 20
)

// readFile reads a file that has no more than a limit.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit)
}

// readAll reads to the end of what has no more than a limit.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		clear(data)
		return nil, fmt.Errorf("more than %s, which is the most that is read", bytesText(uint64(limit)))
	}
	return data, err
}
