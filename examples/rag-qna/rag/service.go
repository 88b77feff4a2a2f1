package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"
)

// The service speaks one question and one answer a connection, each one JSON
// value: {"question": …} one way, an answer back.
type questionMessage struct {
	Question string `json:"question"`
}

// answerTime bounds a whole question; it allows for one call of each API.
const answerTime = 2*apiTimeout + 5*time.Second

// listen takes the socket over from a run that ended without removing it.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the old socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening for questions: %w", err)
	}
	return l, nil
}

type answerFunc func(ctx context.Context, question string) (answer, error)

// serve answers until ctx ends, then lets the questions under way finish.
func serve(ctx context.Context, l net.Listener, answer answerFunc, log io.Writer) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	s := &service{answer: answer, log: log}
	defer s.asking.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("waiting for a question: %w", err)
		}
		s.asking.Go(func() { s.handle(context.WithoutCancel(ctx), conn) })
	}
}

type service struct {
	answer answerFunc
	asking sync.WaitGroup
	mu     sync.Mutex // log: one line at a time
	log    io.Writer
}

func (s *service) handle(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	var q questionMessage
	if err := json.NewDecoder(conn).Decode(&q); err != nil {
		if !errors.Is(err, io.EOF) { // which is a ping
			s.logf("bad question: %v", err)
		}
		return
	}
	a, err := s.answer(ctx, q.Question)
	if err != nil {
		a.Error = err.Error()
		s.logf("question %q failed: %v", q.Question, err)
	} else {
		s.logf("question %q answered from %s", q.Question, a.Source)
	}
	if err := json.NewEncoder(conn).Encode(a); err != nil {
		s.logf("sending the answer: %v", err)
	}
}

func (s *service) logf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.log, format+"\n", args...)
}

// ping says whether somebody answers. A question would cost one call of each API.
func ping(ctx context.Context, path string) error {
	conn, err := dial(ctx, path)
	if err != nil {
		return fmt.Errorf("reaching the service: %w", err)
	}
	return conn.Close()
}

// ask puts a question to the service on the socket at path.
func ask(ctx context.Context, path, question string) (answer, error) {
	conn, err := dial(ctx, path)
	if err != nil {
		return answer{}, fmt.Errorf("reaching the service: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	if err := json.NewEncoder(conn).Encode(questionMessage{Question: question}); err != nil {
		return answer{}, fmt.Errorf("sending the question: %w", err)
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("receiving the answer: %w", err)
	}
	return a, nil
}

const (
	dialTime  = 5 * time.Second
	dialPause = 20 * time.Millisecond
)

// dial waits a moment for a service that has only just been started.
func dial(ctx context.Context, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(dialPause):
		}
	}
}
