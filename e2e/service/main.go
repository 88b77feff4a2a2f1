// Service answers HTTP requests with its instance's ID, and is stopped without losing one:
// from SIGTERM on it ends each connection with the answer that is being given on it, and
// itself when there is none left. It shows what a service has to do for that.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	address := flag.String("listen", ":8080", "where to listen, TCP and UDP")
	delay := flag.Duration("start", 0, "how long it takes to start")
	quiet := flag.Duration("quiet", 300*time.Millisecond, "how long there has to be no connection before it ends")
	url := flag.String("get", "", "print the page at a URL, and do nothing else")
	flag.Parse()
	if *url != "" {
		if err := get(*url); err != nil {
			fmt.Fprintln(os.Stderr, "service:", err)
			os.Exit(1)
		}
		return
	}
	time.Sleep(*delay)
	s := &service{id: os.Getenv("PURSER_INSTANCE"), version: os.Getenv("VERSION"), going: make(chan struct{})}
	go s.echo(*address)
	server := &http.Server{Addr: *address, Handler: s, ConnState: s.count}
	go s.stop(*quiet)
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// get prints a page.
func get(url string) error {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

type service struct {
	id, version string
	stopping    atomic.Bool
	going       chan struct{}

	mu          sync.Mutex
	connections int
	changed     time.Time
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.stopping.Load() {
		w.Header().Set("Connection", "close")
	}
	switch r.URL.Path {
	case "/crash":
		os.Exit(3)
	case "/hold": // answers once somebody asks for /go
		select {
		case <-s.going:
			fmt.Fprintf(w, "%s %s\n", s.id, s.version)
		case <-r.Context().Done():
		}
	case "/go":
		s.going <- struct{}{}
	case "/forever":
		<-r.Context().Done()
	case "/from":
		fmt.Fprintln(w, r.RemoteAddr)
	case "/bytes":
		_, _ = io.CopyN(w, zeros{}, 1<<30)
	default:
		fmt.Fprintf(w, "%s %s\n", s.id, s.version)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// count keeps the number of connections.
func (s *service) count(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.connections++
	case http.StateClosed, http.StateHijacked:
		s.connections--
	}
	s.changed = time.Now()
}

// stop ends the process after SIGTERM, when there has been no connection for a while:
// one that waits to be accepted may still come.
func (s *service) stop(quiet time.Duration) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	<-asked
	s.stopping.Store(true)
	s.mu.Lock()
	s.changed = time.Now()
	s.mu.Unlock()
	for {
		s.mu.Lock()
		over := s.connections == 0 && time.Since(s.changed) > quiet
		s.mu.Unlock()
		if over {
			os.Exit(0)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// echo answers each datagram with the instance's ID and what was sent.
func (s *service) echo(address string) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		return
	}
	buf := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo([]byte(s.id+" "+strings.TrimSpace(string(buf[:n]))), from)
	}
}
