package main

import (
	"encoding/binary"
	"syscall"

	"github.com/purserd/purser/runtime/handover/protocol"
)

// ask sends a document to the agent and returns a descriptor of the completed one.
func ask(socket string, op byte, id, bundle string, document []byte) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, wrap("making a socket", err)
	}
	defer syscall.Close(fd)
	limit := syscall.Timeval{Sec: protocol.Patience}
	for _, option := range []int{syscall.SO_RCVTIMEO, syscall.SO_SNDTIMEO} {
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, option, &limit); err != nil {
			return -1, wrap("bounding the wait for purser's agent", err)
		}
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket}); err != nil {
		return -1, wrap("purser's agent, which has this container's secrets, is not to be reached at "+socket, err)
	}
	if err := send(fd, request(op, id, bundle, document)); err != nil {
		return -1, wrap("asking purser's agent", err)
	}
	return receive(fd)
}

func request(op byte, id, bundle string, document []byte) []byte {
	m := make([]byte, protocol.RequestHeader, protocol.RequestHeader+len(id)+len(bundle)+len(document))
	m[0], m[1] = protocol.Version, op
	binary.BigEndian.PutUint16(m[2:], uint16(len(id)))
	binary.BigEndian.PutUint16(m[4:], uint16(len(bundle)))
	binary.BigEndian.PutUint32(m[8:], uint32(len(document)))
	return append(append(append(m, id...), bundle...), document...)
}

func send(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := syscall.SendmsgN(fd, data, nil, nil, syscall.MSG_NOSIGNAL)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// receive reads the answer.
func receive(fd int) (int, error) {
	header, control := make([]byte, protocol.AnswerHeader), make([]byte, syscall.CmsgSpace(4))
	n, controlled, err := receiveSome(fd, header, control)
	if err == syscall.EAGAIN {
		return -1, failure("purser's agent did not answer in time; is it stopped, or the machine overloaded?")
	}
	if err != nil {
		return -1, wrap("waiting for purser's agent", err)
	}
	if n == 0 {
		return -1, failure("purser's agent gave no answer")
	}
	if err := fill(fd, header[n:]); err != nil {
		return -1, err
	}
	if header[0] != protocol.Version {
		return -1, failure("purser's agent is of another version than purser-oci: restart the agent after an upgrade")
	}
	if header[1] != 0 {
		return -1, refusal(fd, binary.BigEndian.Uint32(header[4:]))
	}
	return descriptor(control[:controlled])
}

func receiveSome(fd int, data, control []byte) (n, controlled int, err error) {
	for {
		n, controlled, _, _, err = syscall.Recvmsg(fd, data, control, syscall.MSG_CMSG_CLOEXEC)
		if err != syscall.EINTR {
			return n, controlled, err
		}
	}
}

// fill reads until data is full.
func fill(fd int, data []byte) error {
	for len(data) > 0 {
		n, _, err := receiveSome(fd, data, nil)
		if err != nil {
			return wrap("reading the answer of purser's agent", err)
		}
		if n == 0 {
			return failure("the answer of purser's agent broke off")
		}
		data = data[n:]
	}
	return nil
}

// refusal is the agent's own reason.
func refusal(fd int, size uint32) error {
	text := make([]byte, min(size, 4096))
	if err := fill(fd, text); err != nil {
		return err
	}
	return failure(string(text))
}

func descriptor(control []byte) (int, error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return -1, failure("purser's agent sent no specification")
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, failure("purser's agent sent no specification")
	}
	return fds[0], nil
}
