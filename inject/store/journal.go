package store

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/internal/durable"
)

// journalPrefix begins the name of a journal, which ends in the sequence number of the
// manifest that it goes on from. It cannot be an environment's.
const journalPrefix = "_journal-"

// journalLimit is how large a journal becomes before a manifest takes its place.
const journalLimit = 1 << 20

// journal is the changes since a manifest, a line each: to add one is a single sync of the
// disk, where another manifest and the file of a version are five.
type journal struct {
	path string
	key  [sha256.Size]byte
	last [sha256.Size]byte // the MAC of the newest line; before the first the manifest's

	size int64 // 0 when there may not be a file yet
	// doubtful is a journal that nothing may be added to, as it is not known what of it is
	// on disk, or its manifest is of a format that has none. The next change needs a manifest.
	doubtful bool
}

// change is a line of a journal: how a record differs from then on.
type change struct {
	Sequence    uint64 `json:"sequence"`
	Environment string `json:"environment"`
	Name        string `json:"name"`
	// Record has those versions alone that are new or not as they were.
	Record  record   `json:"record"`
	Dropped []uint32 `json:"dropped,omitempty"`
	// Sealed is the file of the version that the change made: it may not be on disk.
	Sealed []byte `json:"sealed,omitempty"`
}

// changeOf is how one record becomes another.
func changeOf(before, after record) (c change) {
	c.Record = after
	c.Record.Versions = nil
	for _, v := range after.Versions {
		if old, there := before.find(v.Version); !there || old.Deleted != v.Deleted {
			c.Record.Versions = append(c.Record.Versions, v)
		}
	}
	for _, v := range before.Versions {
		if _, there := after.find(v.Version); !there {
			c.Dropped = append(c.Dropped, v.Version)
		}
	}
	return c
}

// apply is the record that a change makes of the one before.
func (c change) apply(before record) (after record) {
	after = c.Record
	after.Versions = slices.DeleteFunc(slices.Clone(before.Versions), func(v version) bool {
		_, changed := c.Record.find(v.Version)
		return changed || slices.Contains(c.Dropped, v.Version)
	})
	after.Versions = append(after.Versions, c.Record.Versions...)
	slices.SortFunc(after.Versions, func(a, b version) int { return cmp.Compare(a.Version, b.Version) })
	return after
}

// version is the one that a change made.
func (c change) version() (at place, is bool) {
	n := len(c.Record.Versions)
	if c.Sealed == nil || n == 0 {
		return at, false
	}
	return place{c.Environment, c.Name, c.Record.Versions[n-1].Version}, true
}

// journalOf is the journal that goes on from a manifest.
func (s *Store) journalOf(sequence uint64, mac [sha256.Size]byte) *journal {
	return &journal{path: filepath.Join(s.dir, journalPrefix+strconv.FormatUint(sequence, 10)), key: s.keys.Derive("store journal"), last: mac}
}

// inUse says that there is something in the journal, or may be.
func (j *journal) inUse() bool { return j.size > 0 || j.doubtful }

// full says that a manifest is due.
func (j *journal) full() bool { return j.doubtful || j.size >= journalLimit }

// add makes a change durable. With an error, there tells whether it may be in the journal
// nevertheless; then, when it could not be taken out again, and when the file is not as it
// was left, the journal is doubtful.
func (j *journal) add(c change) (there bool, err error) {
	line, mac, err := j.encode(c)
	if err != nil {
		return false, err
	}
	file, err := j.open()
	if err != nil {
		return false, err
	}
	defer file.Close()
	if _, err := file.Write(line); err != nil {
		undone := file.Truncate(j.size)
		j.doubtful = undone != nil
		return false, errors.Join(err, undone)
	}
	if err := unix.Fdatasync(int(file.Fd())); err != nil {
		j.doubtful = true
		return true, fmt.Errorf("syncing %s: %w", j.path, err)
	}
	j.size, j.last = j.size+int64(len(line)), mac
	return true, nil
}

// open opens the file that a line is to be added to, and makes it, durably, for the first. It
// is not kept open: what has its name is what the next start finds.
func (j *journal) open() (*os.File, error) {
	flags := os.O_WRONLY | os.O_APPEND
	if j.size == 0 {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	file, err := os.OpenFile(j.path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		j.doubtful = true
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Size() != j.size {
		j.doubtful, err = true, fmt.Errorf("%s is not as it was left", j.path)
	}
	if err == nil && j.size == 0 {
		err = durable.Sync(filepath.Dir(j.path))
		j.doubtful = err != nil // its name may never be on disk, whatever the next sync says
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// encode makes a line: a MAC in hexadecimal, a space, and JSON.
func (j *journal) encode(c change) (line []byte, mac [sha256.Size]byte, err error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, mac, fmt.Errorf("encoding a change: %w", err)
	}
	mac = j.mac(body)
	line = make([]byte, 0, 2*len(mac)+len(body)+2)
	line = append(hex.AppendEncode(line, mac[:]), ' ')
	return append(append(line, body...), '\n'), mac, nil
}

// mac is that of the line after the last one, so that none can be left out.
func (j *journal) mac(body []byte) (mac [sha256.Size]byte) {
	h := hmac.New(sha256.New, j.key[:])
	h.Write(j.last[:])
	h.Write(body)
	h.Sum(mac[:0])
	return mac
}

// replay reads the changes since the manifest. A last line without its end or its MAC was
// being written when the machine lost its power, and nobody was told that it is there.
func (j *journal) replay(apply func(change) error) (found bool, err error) {
	data, err := os.ReadFile(j.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	for len(data) > 0 && err == nil {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		body, authentic := j.next(line)
		switch {
		case authentic && whole:
			err = decodeChange(body, apply)
		case len(rest) == 0:
			return true, nil
		default:
			err = errors.New("it was changed by something other than purser; restore it")
		}
		data = rest
	}
	if err != nil {
		return true, &DamageError{Path: j.path, Reason: err.Error()}
	}
	return true, nil
}

// next goes on to a line, without its end, and returns what is in it, if the line has its MAC.
func (j *journal) next(line []byte) (body []byte, authentic bool) {
	digits, body, _ := bytes.Cut(line, []byte(" "))
	mac := j.mac(body)
	if !hmac.Equal(digits, hex.AppendEncode(nil, mac[:])) {
		return nil, false
	}
	j.last = mac
	return body, true
}

func decodeChange(body []byte, apply func(change) error) error {
	var c change
	if err := decodeStrictly(body, &c); err != nil {
		return err
	}
	return apply(c)
}
