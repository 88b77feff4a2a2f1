package server

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"connectrpc.com/connect"

	"github.com/purserd/purser/agent"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

func (s workloads) Exec(ctx context.Context, stream *connect.BidiStream[purserv1.ExecRequest, purserv1.ExecResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return noFirst(err)
	}
	start := first.GetStart()
	if start == nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("start: the first message must say what to run"))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &output[purserv1.ExecResponse]{send: stream.Send}
	defer out.close()
	in := newExecInput(func(room uint32) error { return out.do(&purserv1.ExecResponse{StdinRoom: room}) })
	defer in.stdin.close()
	go func() {
		if in.receive(stream) != nil {
			cancel() // the client is gone, and with it who could end the command
		}
	}()
	piece := func(name string) writer {
		return func(p []byte) error { return out.do(&purserv1.ExecResponse{Stream: name, Data: p}) }
	}
	streams := agent.ExecIO{Stdout: piece("stdout"), Stderr: piece("stderr"), Signals: in.signals, Sizes: in.sizes, Detach: in.detach}
	if start.GetStdin() {
		streams.Stdin = in.stdin
	} else {
		in.stdin.close()
	}
	exit, err := s.agent.Exec(ctx, start, streams)
	if err != nil {
		return coded(err)
	}
	if exit == nil {
		return nil // detached
	}
	return out.do(&purserv1.ExecResponse{Exit: exit})
}

// execInput is what a client sends to a command.
type execInput struct {
	stdin   *inbox
	signals chan syscall.Signal
	sizes   chan runtime.Size
	detach  chan struct{} // closed once
}

func newExecInput(tell func(room uint32) error) *execInput {
	return &execInput{
		stdin:   newInbox(tell),
		signals: make(chan syscall.Signal, 16),
		sizes:   make(chan runtime.Size, 1),
		detach:  make(chan struct{}),
	}
}

// receive takes what the client sends until it sends no more.
func (in *execInput) receive(stream *connect.BidiStream[purserv1.ExecRequest, purserv1.ExecResponse]) error {
	defer in.stdin.end()
	for detached := false; ; {
		m, err := stream.Receive()
		if errors.Is(err, io.EOF) || err != nil && detached {
			return nil
		}
		if err != nil {
			return err
		}
		if n := m.GetSignal(); n != 0 {
			select {
			case in.signals <- syscall.Signal(n):
			default: // sixteen are waiting already
			}
		}
		if m.GetSize() != nil {
			newest(in.sizes, agent.SizeOf(m.GetSize()))
		}
		if m.GetDetach() && !detached {
			detached = true
			close(in.detach)
		}
		if len(m.GetStdin()) > 0 {
			_, _ = in.stdin.Write(m.GetStdin())
		}
		if m.GetCloseStdin() {
			in.stdin.end()
		}
	}
}

// newest puts a value into a channel with room for one, in the place of an older
// one if need be. There is one sender.
func newest[T any](c chan T, value T) {
	select {
	case <-c:
	default:
	}
	c <- value
}

func (s workloads) Attach(ctx context.Context, stream *connect.BidiStream[purserv1.AttachRequest, purserv1.AttachResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return noFirst(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attachment, err := s.agent.Attach(first.GetEnvironment(), first.GetId())
	if err != nil {
		return coded(err)
	}
	defer attachment.Close()
	out := &output[purserv1.AttachResponse]{send: stream.Send}
	defer out.close()
	stdin := newInbox(func(room uint32) error { return out.do(&purserv1.AttachResponse{StdinRoom: room}) })
	defer stdin.close()
	if attachment.Stdin != nil {
		go feed(attachment.Stdin, stdin)
	} else {
		stdin.close()
	}
	go func() {
		if receiveAttach(ctx, stream, first, stdin, attachment) != nil {
			cancel()
		}
	}()
	exit, err := attachment.Follow(ctx, func(name string, p []byte) error {
		return out.do(&purserv1.AttachResponse{Stream: name, Data: p})
	})
	if err != nil {
		return coded(err)
	}
	return out.do(&purserv1.AttachResponse{Exit: exit})
}

// feed passes stdin on to a container. What that does not take any more is read all
// the same: the client has sizes to send, too.
func feed(to *runtime.Stdin, from *inbox) {
	switch _, err := io.Copy(to, from); {
	case err != nil:
		_, _ = io.Copy(io.Discard, from)
	case from.atEnd():
		_ = to.End()
	}
}

// receiveAttach takes what the client sends until it sends no more.
func receiveAttach(ctx context.Context, stream *connect.BidiStream[purserv1.AttachRequest, purserv1.AttachResponse], m *purserv1.AttachRequest, stdin *inbox, attachment *agent.Attachment) error {
	for {
		if m.GetSize() != nil {
			// One that could not be set has ended, or is set with the next.
			_ = attachment.Resize(ctx, agent.SizeOf(m.GetSize()))
		}
		if len(m.GetStdin()) > 0 {
			_, _ = stdin.Write(m.GetStdin())
		}
		if m.GetCloseStdin() {
			stdin.end()
		}
		var err error
		if m, err = stream.Receive(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// output serialises what is sent on one stream, which takes one message at a time,
// and none once its handler has returned.
type output[T any] struct {
	mu     sync.Mutex
	send   func(*T) error
	closed bool
}

func (o *output[T]) do(message *T) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return net.ErrClosed
	}
	return o.send(message)
}

func (o *output[T]) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// writer sends what is written to it.
type writer func(p []byte) error

func (w writer) Write(p []byte) (int, error) {
	if err := w(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// noFirst words the error of a stream that ended before its first message.
func noFirst(err error) error {
	if errors.Is(err, io.EOF) {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("the stream ended before its first message"))
	}
	return err
}
