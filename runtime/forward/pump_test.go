package forward

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

func TestPiecesOfAllSizesArriveOnOneConnection(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	a := newInstance(t, "a", "127.0.0.1", 0, func(conn *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{conn}, conn) })
	n.claim("dev/web", tcpPort(port, a.port))
	n.point("dev/web", a.target())
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	source := rand.NewChaCha8([32]byte{})
	for _, size := range []int{1, chunk - 1, chunk, 1, chunk + 1, 3 * chunk, chunk, 10, pipeSize + chunk, pipeSize, 2, chunk, chunk} {
		sent, got := make([]byte, size), make([]byte, size)
		_, _ = source.Read(sent)
		go func() { _, _ = conn.Write(sent) }()
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Fatalf("of %d bytes: %v", size, err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("other %d bytes come back", size)
		}
	}
}
