package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
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
	stdin, input := io.Pipe()
	signals := make(chan syscall.Signal, 16)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer input.Close()
		if feedExec(stream, input, signals, !start.GetStdin()) != nil {
			cancel() // the client is gone, and with it who could end the command
		}
	}()
	defer stdin.Close()
	var in io.Reader
	if start.GetStdin() {
		in = stdin
	}
	out := &output{}
	exit, err := s.agent.Exec(ctx, start, in, signals,
		out.to("stdout", func(name string, p []byte) error { return stream.Send(&purserv1.ExecResponse{Stream: name, Data: p}) }),
		out.to("stderr", func(name string, p []byte) error { return stream.Send(&purserv1.ExecResponse{Stream: name, Data: p}) }))
	if err != nil {
		return coded(err)
	}
	return stream.Send(&purserv1.ExecResponse{Exit: exit})
}

// feedExec passes on what the client sends until it sends no more.
func feedExec(stream *connect.BidiStream[purserv1.ExecRequest, purserv1.ExecResponse], input *io.PipeWriter, signals chan<- syscall.Signal, deaf bool) error {
	for {
		m, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n := m.GetSignal(); n != 0 {
			select {
			case signals <- syscall.Signal(n):
			default: // sixteen are waiting already
			}
		}
		if len(m.GetStdin()) > 0 && !deaf {
			if _, err := input.Write(m.GetStdin()); err != nil {
				deaf = true // the command has closed its stdin; signals still matter
			}
		}
		if m.GetCloseStdin() {
			input.Close()
		}
	}
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
	go func() {
		if feedAttach(stream, first, attachment.Stdin) != nil {
			cancel()
		}
	}()
	exit, err := attachment.Follow(ctx, func(name string, p []byte) error {
		return stream.Send(&purserv1.AttachResponse{Stream: name, Data: p})
	})
	if err != nil {
		return coded(err)
	}
	return stream.Send(&purserv1.AttachResponse{Exit: exit})
}

// feedAttach passes stdin on to a container that has one.
func feedAttach(stream *connect.BidiStream[purserv1.AttachRequest, purserv1.AttachResponse], m *purserv1.AttachRequest, input io.WriteCloser) error {
	for {
		if len(m.GetStdin()) > 0 && input != nil {
			if _, err := input.Write(m.GetStdin()); err != nil {
				input = nil // the container does not read any more
			}
		}
		if m.GetCloseStdin() && input != nil {
			input.Close()
			input = nil
		}
		var err error
		if m, err = stream.Receive(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// output serialises writers onto one stream, which may be sent to by one
// goroutine at a time.
type output struct{ mu sync.Mutex }

type outputStream struct {
	out  *output
	name string
	send func(name string, p []byte) error
}

func (o *output) to(name string, send func(string, []byte) error) io.Writer {
	return &outputStream{out: o, name: name, send: send}
}

func (w *outputStream) Write(p []byte) (int, error) {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	if err := w.send(w.name, p); err != nil {
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
