package server

import (
	"io"
	"sync"
)

// inboxSize is how much of a client's stdin is kept that is not read yet.
const inboxSize = 256 << 10

// inbox holds what a client sends for stdin until it is read, so that the signals
// and sizes behind it need not wait. The client is told how much room there is; one
// that sends more waits with all that it sends. Its ends are for one goroutine each.
type inbox struct {
	// tell tells the client of more room. Its errors come again where the stream is
	// read.
	tell func(room uint32) error

	mu      sync.Mutex
	changed sync.Cond
	data    []byte
	ended   bool // the client sends no more
	closed  bool // nobody reads any more

	// freed is what was read and the client was not told of; it is the reader's.
	freed int
}

func newInbox(tell func(room uint32) error) *inbox {
	b := &inbox{tell: tell, freed: inboxSize}
	b.changed.L = &b.mu
	return b
}

// Read tells the client of all the room at first, and then of what it makes, in
// pieces worth a message.
func (b *inbox) Read(p []byte) (int, error) {
	if b.freed >= inboxSize/4 {
		_ = b.tell(uint32(b.freed))
		b.freed = 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) == 0 && !b.ended && !b.closed {
		b.changed.Wait()
	}
	if len(b.data) == 0 || b.closed {
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	b.freed += n
	b.changed.Broadcast()
	return n, nil
}

// Write waits as long as the inbox is full. What nobody will read is dropped.
func (b *inbox) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) >= inboxSize && !b.closed {
		b.changed.Wait()
	}
	if !b.closed && !b.ended {
		b.data = append(b.data, p...)
	}
	b.changed.Broadcast()
	return len(p), nil
}

// end says that the client sends no more.
func (b *inbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.changed.Broadcast()
}

// atEnd says whether the client ended stdin and all of it has been read.
func (b *inbox) atEnd() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended && !b.closed && len(b.data) == 0
}

// close says that nobody reads any more.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.data = true, nil
	b.changed.Broadcast()
}
