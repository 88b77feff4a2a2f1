package forward

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/companion"
)

// What a forwarder is asked for. Each request has one answer, in their order.
const (
	opHello    = "hello"     // what it runs
	opClaim    = "claim"     // Owner, Ports; answers its sockets
	opPoint    = "point"     // Owner, Targets
	opRelease  = "release"   // Owner
	opList     = "list"      // answers Owners
	opSockets  = "sockets"   // Owner; answers its ports and targets as well
	opRestore  = "restore"   // Owner, Ports, Targets, with the sockets
	opTakeOver = "take over" // it stops accepting, and answers Owners until "taken" or the end of the connection
	opTaken    = "taken"     // it finishes its connections, and ends
	opLeave    = "leave"     // it ends if it has nothing to do
)

// request is what one is asked for, with what the operation needs.
type request struct {
	Op      string
	Owner   string   `json:",omitempty"`
	Ports   []Port   `json:",omitempty"`
	Targets []Target `json:",omitempty"`
	fds     []int
}

// response is empty when all is well.
type response struct {
	Error      string               `json:",omitempty"`
	Taken      *TakenError          `json:",omitempty"` // instead of Error
	Executable companion.Executable `json:",omitzero"`
	Owners     []Owner              `json:",omitempty"`
	Handed     *handed              `json:",omitempty"`
	fds        []int                // the sockets of the one owner, in the order of its ports
}

func (r response) err() error {
	if r.Taken != nil {
		return r.Taken
	}
	if r.Error != "" {
		return answeredError(r.Error)
	}
	return nil
}

// answeredError is what a forwarder said, as opposed to one that could not be asked.
type answeredError string

func (e answeredError) Error() string { return string(e) }

func failed(err error) response {
	var taken *TakenError
	if errors.As(err, &taken) {
		return response{Taken: taken}
	}
	if err != nil {
		return response{Error: err.Error()}
	}
	return response{}
}

// maxMessage bounds what is read of one message: a list of some 50 000 owners.
const maxMessage = 16 << 20

// send writes a message: its length, with which the descriptors go, and JSON.
func send(conn *net.UnixConn, message any, fds []int) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(body))), rights, nil); err != nil {
		return err
	}
	_, err = conn.Write(body)
	return err
}

// receive reads a message. The caller closes the descriptors.
func receive(conn *net.UnixConn, message any) (fds []int, err error) {
	head, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4*maxPorts))
	n, nr, flags, _, err := conn.ReadMsgUnix(head, rights)
	fds = received(rights[:nr])
	defer func() {
		if err != nil {
			closeAll(fds)
			fds = nil
		}
	}()
	switch {
	case err != nil:
		return fds, err
	case n == 0:
		return fds, io.EOF
	case flags&unix.MSG_CTRUNC != 0:
		return fds, errors.New("there are more descriptors in a message than can be received")
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return fds, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return fds, fmt.Errorf("a message of %d bytes is too long", size)
	}
	body, err := io.ReadAll(io.LimitReader(conn, int64(size)))
	if err == nil && len(body) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fds, err
	}
	return fds, json.Unmarshal(body, message)
}

// received are the descriptors in a control message, which package net has closed on exec.
func received(rights []byte) []int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil
	}
	var all []int
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			all = append(all, fds...)
		}
	}
	return all
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
