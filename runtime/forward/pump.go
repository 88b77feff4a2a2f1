package forward

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

type rawConn = syscall.RawConn

// chunk is what is read at once: more is moved through a pipe, by the kernel alone.
const chunk = 16 << 10

// buffers are used between a read and the write that follows, so that a connection on
// which nothing happens has none, nor a pipe.
var buffers = sync.Pool{New: func() any { return new([chunk]byte) }}

// pumping is a half of a connection.
type pumping struct {
	dst, src   *stream
	moved      *counter
	read, fill func(uintptr) bool

	buf     *[chunk]byte // what was read is here,
	through *pipe        // or there
	n       int
	err     error
}

// earlySize has room in any socket that nothing has been written to.
const earlySize = 4 << 10

// early passes on what the client has said already: most have, and the server has begun
// with it while the rest is made ready.
func early(server, client *stream, c *counters) error {
	if client.f != nil || server.f != nil {
		return nil // it has taken long anyway
	}
	buf := buffers.Get().(*[chunk]byte)
	defer buffers.Put(buf)
	n, err := ignoringInterrupts(func() (int, error) { return unix.Read(client.fd, buf[:earlySize]) })
	if err != nil || n == 0 {
		return nil // whoever reads next is told as well, but for a reset
	}
	sent, err := ignoringInterrupts(func() (int, error) { return unix.Write(server.fd, buf[:n]) })
	c.bytesIn.Add(uint64(sent))
	if err == nil && sent < n {
		err = io.ErrShortWrite
	}
	return err
}

// pump moves what src gives to dst until src has ended: in a buffer while it comes in small
// pieces, through a pipe while there are many.
//
// io.Copy does so with splice(2), too, but with a pipe of its own for each half, which
// it has all the time: six descriptors for a connection, where there can be two.
func pump(dst, src *stream, moved *counter) error {
	p := &pumping{dst: dst, src: src, moved: moved}
	p.read, p.fill = p.tryRead, p.tryFill
	move := p.few
	for {
		err := move()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if move = p.few; p.n >= chunk {
			move = p.many
		}
	}
}

// few waits for something, and moves what fits into a buffer.
func (p *pumping) few() error {
	if err := p.src.raw.Read(p.read); err != nil {
		return err
	}
	defer buffers.Put(p.buf)
	if err := p.failed(); err != nil {
		return err
	}
	n, err := p.dst.f.Write(p.buf[:p.n])
	p.moved.Add(uint64(n))
	return err
}

func (p *pumping) tryRead(fd uintptr) bool {
	p.buf = buffers.Get().(*[chunk]byte)
	p.n, p.err = ignoringInterrupts(func() (int, error) { return unix.Read(int(fd), p.buf[:]) })
	if errors.Is(p.err, unix.EAGAIN) {
		buffers.Put(p.buf)
		return false
	}
	return true
}

// failed is what has come of an attempt to read.
func (p *pumping) failed() error {
	if p.err == nil && p.n == 0 {
		return io.EOF
	}
	return p.err
}

// many waits for something, and moves whatever is there through a pipe, by the kernel alone.
func (p *pumping) many() error {
	if err := p.src.raw.Read(p.fill); err != nil {
		return err
	}
	if p.through == nil {
		return p.few()
	}
	if err := p.failed(); err != nil {
		p.through.putBack()
		return err
	}
	if err := p.drain(); err != nil {
		p.through.close() // as there is something in it
		return err
	}
	p.through.putBack()
	return nil
}

// tryFill moves from the source into an empty pipe. It leaves p.through nil if there is none.
func (p *pumping) tryFill(fd uintptr) bool {
	if p.through, p.err = takePipe(); p.err != nil {
		return true
	}
	p.n, p.err = ignoringInterrupts(func() (int, error) { return splice(int(fd), p.through.w) })
	if errors.Is(p.err, unix.EAGAIN) {
		p.through.putBack()
		return false
	}
	return true
}

// drain moves all that is in the pipe out of it.
func (p *pumping) drain() error {
	for left := p.n; left > 0; {
		var moved int
		var failed error
		err := p.dst.raw.Write(func(fd uintptr) bool {
			moved, failed = ignoringInterrupts(func() (int, error) { return splice(p.through.r, int(fd)) })
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		p.moved.Add(uint64(moved))
		left -= moved
	}
	return nil
}

func splice(from, to int) (int, error) {
	n, err := unix.Splice(from, nil, to, nil, pipeSize, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	return int(n), err
}

func ignoringInterrupts(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// pipeSize is asked for; the kernel gives less to a user who has many.
const pipeSize = 1 << 20

// pipe is one that is empty while nobody has it.
type pipe struct{ r, w int }

// pipes are those that nobody has.
var pipes = make(chan *pipe, 32)

func takePipe() (*pipe, error) {
	select {
	case p := <-pipes:
		return p, nil
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: fds[0], w: fds[1]}, nil
}

func (p *pipe) putBack() {
	select {
	case pipes <- p:
	default:
		p.close()
	}
}

func (p *pipe) close() { closeAll([]int{p.r, p.w}) }
