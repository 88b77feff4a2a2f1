package forward

import "sync"

// relay passes on what each of two ends gives, until both have ended, and ends them as
// each other: what one has finished is finished to the other, and a reset is a reset.
func relay(client, server *stream, c *counters) {
	if early(server, client, c) != nil || client.open() != nil || server.open() != nil {
		client.reset()
		server.reset()
		return
	}
	r := &relayed{}
	var other sync.WaitGroup
	other.Go(func() { r.half(client, server, &c.bytesOut) })
	r.half(server, client, &c.bytesIn)
	other.Wait()
	client.close()
	server.close()
}

// relayed is what is known of a connection.
type relayed struct {
	mu     sync.Mutex
	ended  bool // one half of it
	broken bool // one end of it was reset
}

// half passes on what src gives. When it returns, and the other half does, all is over.
func (r *relayed) half(dst, src *stream, moved *counter) {
	err := pump(dst, src, moved)
	switch r.outcome(dst, src, err) {
	case over:
		dst.finish()
		// The other half may be looking for a reset.
		dst.close()
		src.close()
	case halfOver:
		dst.finish()
		if awaitReset(src) && r.breaks() {
			dst.reset()
			src.reset()
		}
	case broken:
		dst.reset()
		src.reset()
	case writerBroken:
		// The other half brings what the end gave before, and then knows.
	}
}

// outcomes of a half.
type outcome int

const (
	over         outcome = iota // and the other half was before
	halfOver                    // the other half goes on
	broken                      // one end was reset
	writerBroken                // the end that was written to was reset, and may have given something before
)

func (r *relayed) outcome(dst, src *stream, err error) outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	other := r.ended
	r.ended = true
	// The error of a reset is told once, maybe to the other half. After both halves have
	// ended a socket is closed in any case.
	if err != nil || !other && src.dead() {
		r.broken = true
	}
	switch {
	case r.broken && err != nil && !other && !src.dead() && dst.dead():
		return writerBroken
	case r.broken:
		return broken
	case other:
		return over
	}
	return halfOver
}

// breaks tells whether a reset of an end that had finished breaks the other half.
func (r *relayed) breaks() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.broken
}

// awaitReset returns true when a connection of which all has been read is reset, false
// when it is closed here.
func awaitReset(s *stream) bool {
	return s.raw.Read(func(fd uintptr) bool { return closedState(int(fd)) }) == nil
}
