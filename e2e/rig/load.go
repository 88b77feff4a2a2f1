package rig

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Load asks an HTTP server for one page over and over, and misses no failure: a request
// either is answered in full with status 200, or counts as failed. It never repeats one.
type Load struct {
	// Dial opens a connection to the server.
	Dial func(ctx context.Context) (net.Conn, error)
	// Kept is how many connections are used for one request after the other, Fresh how many
	// clients open one for each.
	Kept, Fresh int
	// Pause is what each client waits for between requests, and FreshPause what those do
	// that open a connection for each. Every connection occupies a port of the client's, and
	// of a proxy's, for a minute: some 400 a second is all that there is for one address.
	Pause, FreshPause time.Duration
	// Patience bounds a request, and before it its connection; 20 s unless given.
	Patience time.Duration

	ctx     context.Context
	cancel  context.CancelFunc
	clients sync.WaitGroup

	mu     sync.Mutex
	report LoadReport
}

// LoadReport is what became of a load.
type LoadReport struct {
	Requests int
	// Answers counts the answers by the first word of their bodies.
	Answers  map[string]int
	Failures []LoadFailure
	// Slowest is the longest that a request took, its connection included.
	Slowest time.Duration
}

// LoadFailure is one request that was not answered.
type LoadFailure struct {
	At   time.Time
	What string
	// Instance is the first word of the last answer on the connection; empty for none.
	Instance string
	// Connected is when the connection was asked for; zero if it never was there.
	Connected time.Time
}

func (r LoadReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %d failed, slowest %v, answered by", r.Requests, len(r.Failures), r.Slowest.Round(time.Millisecond))
	for _, name := range slices.Sorted(maps.Keys(r.Answers)) {
		fmt.Fprintf(&b, " %s: %d", name, r.Answers[name])
	}
	for _, f := range r.Failures[:min(len(r.Failures), 10)] {
		fmt.Fprintf(&b, "\n  %s %s (connected to %q at %s)", f.At.Format("15:04:05.000"), f.What, f.Instance, f.Connected.Format("15:04:05.000"))
	}
	return b.String()
}

// Start begins.
func (l *Load) Start() {
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.Patience = cmp.Or(l.Patience, 20*time.Second)
	l.report.Answers = map[string]int{}
	for range l.Kept {
		l.clients.Go(func() { l.client(true) })
	}
	for range l.Fresh {
		l.clients.Go(func() { l.client(false) })
	}
}

// Stop ends what was started, once each client has the answer that it waits for.
func (l *Load) Stop() LoadReport {
	l.cancel()
	l.clients.Wait()
	return l.Report()
}

// Report is how it has gone so far.
func (l *Load) Report() LoadReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Answers, r.Failures = maps.Clone(r.Answers), slices.Clone(r.Failures)
	return r
}

// client makes requests until the load ends.
func (l *Load) client(keep bool) {
	var conn *loadConn
	for l.ctx.Err() == nil {
		began := time.Now()
		var err error
		if conn == nil {
			conn, err = l.connect()
		}
		last := ""
		if err == nil {
			last = conn.last
			err = conn.ask(l.Patience)
		}
		l.note(time.Since(began), conn, last, err)
		if conn != nil && (err != nil || !keep || conn.over) {
			conn.Close()
			conn = nil
		}
		pause := l.Pause
		if !keep {
			pause = l.FreshPause
		}
		select {
		case <-l.ctx.Done():
		case <-time.After(pause):
		}
	}
	if conn != nil {
		conn.Close()
	}
}

func (l *Load) connect() (*loadConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.Patience)
	defer cancel()
	since := time.Now() // and not later: it may have been lost already when we get to look at the clock
	conn, err := l.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return &loadConn{Conn: conn, answers: bufio.NewReader(conn), since: since}, nil
}

func (l *Load) note(took time.Duration, conn *loadConn, last string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Requests++
	l.report.Slowest = max(l.report.Slowest, took)
	if err != nil {
		f := LoadFailure{At: time.Now(), What: err.Error(), Instance: last}
		if conn != nil {
			f.Connected = conn.since
		}
		l.report.Failures = append(l.report.Failures, f)
		return
	}
	l.report.Answers[conn.last]++
}

// loadConn is a connection to the server.
type loadConn struct {
	net.Conn
	answers *bufio.Reader
	since   time.Time
	last    string // the first word of the last answer
	over    bool   // the server has said that it takes no other request
}

// ask makes a request and reads the answer.
func (c *loadConn) ask(patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: load\r\n\r\n"); err != nil {
		return fmt.Errorf("sending a request: %w", err)
	}
	answer, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return fmt.Errorf("waiting for an answer: %w", err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s: %s", answer.Status, body)
	}
	c.last, _, _ = strings.Cut(strings.TrimSpace(string(body)), " ")
	c.over = answer.Close
	return nil
}
