// Package handover gives OCI runtimes what containerd must not see.
//
// containerd keeps the whole OCI specification of a container in its database and
// in the container's bundle, so what it is given holds no secret. What it takes for
// the OCI runtime is the program purser-oci (cmd/purser-oci). Before that becomes
// the real runtime it asks here, over a socket in the private directory, for the
// complete specification:
//
//	s, err := handover.Listen(handover.Options{Dir: private, …})
//	r, err := s.Install("runc", "/usr/bin/purser-oci", "/usr/sbin/runc")
//	// r.Path is what containerd is to execute, r.Root where the runtime keeps state
//	token, forget := s.Expect(protocol.OpCreate, id, handover.Spec(secrets, r))
//	// put the token into the specification, have containerd create the task
//	forget()
//
// Whoever asks has to be of the same user (SO_PEERCRED) and to show a token, which
// is random, good for one request of one kind for one container, and forgotten when
// the launch is over: what remains of it in containerd's records is of no use. The
// answer is a descriptor of an unlinked file on the private mount. Package protocol
// describes the conversation.
package handover

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/runtime/handover/protocol"
	"github.com/purserd/purser/runtime/peer"
)

// lifetime is how long a token is good for at most.
const lifetime = 2 * time.Minute

// Complete makes the document that the runtime gets of the one that containerd
// has. bundle is the container's own, with protocol.OpCreate.
type Complete func(document []byte, bundle string) ([]byte, error)

// Server answers the wrapper.
type Server struct {
	Options
	listener *net.UnixListener
	serving  sync.WaitGroup

	mu       sync.Mutex
	expected map[string]expectation // by token
	conns    map[*net.UnixConn]struct{}
	closed   bool
}

// Options of a server.
type Options struct {
	// Dir is the private directory, which must be mounted.
	Dir string
	// Log gets what the asking side is told as well.
	Log *slog.Logger
	// Observe is told of the result of each request, one of Results.
	Observe func(result string)
	// Join is a file that a thread of the wrapper writes "0" to before it asks for
	// secrets, to be in a cgroup without swap. Empty for none.
	Join string
}

// expectation is a request that is to come.
type expectation struct {
	op       byte
	id       string
	complete Complete
	until    time.Time
}

// Results of requests.
const (
	ResultOK      = "ok"
	ResultRefused = "refused"
	ResultError   = "error"
)

// Results are all results.
var Results = []string{ResultOK, ResultRefused, ResultError}

// Listen lays out the private directory and serves on a socket in it until Close.
func Listen(o Options) (*Server, error) {
	s := &Server{Options: o, expected: map[string]expectation{}, conns: map[*net.UnixConn]struct{}{}}
	if err := s.layOut(); err != nil {
		return nil, fmt.Errorf("laying out the private directory: %w", err)
	}
	path := filepath.Join(s.Dir, protocol.Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replacing the socket for the OCI runtimes: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening for the OCI runtimes: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protecting the socket for the OCI runtimes: %w", err), l.Close())
	}
	s.listener = l
	s.serving.Go(s.serve)
	return s, nil
}

// Expect announces a request, and returns the token that it has to show. The
// request is forgotten when it has come, and by forget.
func (s *Server) Expect(op byte, id string, complete Complete) (token string, forget func()) {
	token = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected[token] = expectation{op: op, id: id, complete: complete, until: time.Now().Add(lifetime)}
	return token, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.expected, token)
	}
}

// Close ends the service. What is installed stays for the next server.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
	return err
}

func (s *Server) serve() {
	for {
		conn, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.Log.Error("cannot answer the OCI runtimes for a moment", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		s.serving.Go(func() { s.handle(conn) })
	}
}

// handle holds one conversation.
func (s *Server) handle(conn *net.UnixConn) {
	defer conn.Close()
	if !s.track(conn) {
		return
	}
	defer s.untrack(conn)
	_ = conn.SetDeadline(time.Now().Add(protocol.Patience * time.Second))
	fd, err := s.answer(conn)
	var refused *refusal
	switch {
	case err == nil:
		defer fd.Close()
		header := make([]byte, protocol.AnswerHeader)
		header[0] = protocol.Version
		if _, _, err = conn.WriteMsgUnix(header, unix.UnixRights(int(fd.Fd())), nil); err == nil {
			s.Observe(ResultOK)
			return
		}
		s.Observe(ResultError)
	case errors.As(err, &refused):
		s.Observe(ResultRefused)
	default:
		s.Observe(ResultError)
	}
	s.Log.Warn("an OCI runtime was not given what it asked for", "error", err)
	_, _ = conn.Write(refuse(err))
}

func refuse(err error) []byte {
	text := err.Error()
	m := make([]byte, protocol.AnswerHeader, protocol.AnswerHeader+len(text))
	m[0], m[1] = protocol.Version, 1
	binary.BigEndian.PutUint32(m[4:], uint32(len(text)))
	return append(m, text...)
}

func (s *Server) track(conn *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[conn] = struct{}{}
	}
	return !s.closed
}

func (s *Server) untrack(conn *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// refusal is the answer to who may not have what was asked for.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// answer returns a descriptor of the completed document.
func (s *Server) answer(conn *net.UnixConn) (*os.File, error) {
	// Read first: of an answer to what was not read, the other side may hear only
	// that the connection broke.
	r, err := readRequest(conn)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn); err != nil {
		return nil, err
	}
	token, err := r.token()
	if err != nil {
		return nil, err
	}
	complete, err := s.redeem(token, r)
	if err != nil {
		return nil, err
	}
	failpoint.Here("handover.redeemed")
	document, err := complete(r.document, r.bundle)
	if err != nil {
		return nil, fmt.Errorf("completing the specification of container %s: %w", r.id, err)
	}
	defer clear(document)
	fd, err := memoryFile(s.Dir, document)
	failpoint.Here("handover.served")
	return fd, err
}

// checkPeer lets only processes of the agent's own user ask.
func checkPeer(conn *net.UnixConn) error {
	who, err := peer.Credentials(conn)
	if err != nil {
		return err
	}
	if int(who.Uid) != os.Geteuid() {
		return &refusal{fmt.Sprintf("user %d may not have a container's secrets", who.Uid)}
	}
	return nil
}

// redeem takes a token for what it stands for, once.
func (s *Server) redeem(token string, r request) (Complete, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.expected[token]
	delete(s.expected, token)
	if !ok || time.Now().After(e.until) {
		return nil, &refusal{fmt.Sprintf("the token of container %s is used, expired or of an earlier agent", r.id)}
	}
	if e.op != r.op || e.id != r.id {
		return nil, &refusal{fmt.Sprintf("the token shown for container %s is not for that", r.id)}
	}
	return e.complete, nil
}

// request is what the wrapper sends.
type request struct {
	op         byte
	id, bundle string
	document   []byte
}

func readRequest(conn io.Reader) (request, error) {
	header := make([]byte, protocol.RequestHeader)
	if _, err := io.ReadFull(conn, header); err != nil {
		return request{}, fmt.Errorf("reading a request: %w", err)
	}
	if header[0] != protocol.Version {
		return request{}, &refusal{fmt.Sprintf("purser-oci speaks version %d of the protocol, this agent %d: restart the agent after an upgrade", header[0], protocol.Version)}
	}
	id, bundle := int(binary.BigEndian.Uint16(header[2:])), int(binary.BigEndian.Uint16(header[4:]))
	size := binary.BigEndian.Uint32(header[8:])
	if size > protocol.MaxDocument {
		return request{}, &refusal{fmt.Sprintf("a document of %d bytes is too large", size)}
	}
	body := make([]byte, id+bundle+int(size))
	if _, err := io.ReadFull(conn, body); err != nil {
		return request{}, fmt.Errorf("reading a request: %w", err)
	}
	return request{op: header[1], id: string(body[:id]), bundle: string(body[id : id+bundle]), document: body[id+bundle:]}, nil
}

// documentPrefix begins the names that completed documents have for a moment.
const documentPrefix = "document-"

// memoryFile returns a file without a name, on the private mount, to be read.
func memoryFile(dir string, content []byte) (*os.File, error) {
	w, err := os.CreateTemp(dir, documentPrefix)
	if err != nil {
		return nil, fmt.Errorf("writing the completed specification: %w", err)
	}
	defer w.Close()
	if err := os.Remove(w.Name()); err != nil {
		return nil, fmt.Errorf("writing the completed specification: %w", err)
	}
	if _, err := w.Write(content); err != nil {
		return nil, fmt.Errorf("writing the completed specification: %w", err)
	}
	// Another description, so that the runtime cannot write and starts at 0.
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
	if err != nil {
		return nil, fmt.Errorf("passing on the completed specification: %w", err)
	}
	return r, nil
}
