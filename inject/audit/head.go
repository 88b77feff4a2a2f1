package audit

import "fmt"

// Heads keeps the head of a trail, apart from its files.
type Heads interface {
	// AuditHead returns what was set last; nil when nothing was.
	AuditHead() ([]byte, error)
	// SetAuditHead returns once the head is on disk.
	SetAuditHead([]byte) error
}

// head is what is sealed: the newest record that is on disk, and the oldest that is
// kept.
type head struct {
	// Seq and MAC are the newest record's; 0 and empty when there is none yet.
	Seq uint64 `json:"seq"`
	MAC string `json:"record"`
	// File it is in, by the number of its first record, and where its line begins.
	File   uint64 `json:"file"`
	Offset int64  `json:"offset"`
	// Oldest is the first record of the oldest file.
	Oldest uint64 `json:"oldest"`
}

// readHead returns the sealed head; nil when there is none. It fails with errForm
// or errMAC for one that was changed.
func (l *Log) readHead() (*head, error) {
	data, err := l.heads.AuditHead()
	if err != nil {
		return nil, fmt.Errorf("reading the head of the audit trail: %w", err)
	}
	if data == nil {
		return nil, nil
	}
	var h head
	if _, err := l.headKey.open(data, &h); err != nil {
		return nil, err
	}
	return &h, nil
}

func (l *Log) writeHead(h head) error {
	data, _, err := l.headKey.seal(h)
	if err == nil {
		err = l.heads.SetAuditHead(data)
	}
	if err != nil {
		return fmt.Errorf("sealing the head of the audit trail: %w", err)
	}
	return nil
}
