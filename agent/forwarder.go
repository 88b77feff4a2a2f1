package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime/companion"
	"github.com/purserd/purser/runtime/forward"
)

// forwarder is the node's port forwarder, a process that is found or started when there is
// something for it to do: a node without published ports has none.
type forwarder struct {
	options companion.Options

	ctx    context.Context // over when it is closed
	cancel context.CancelFunc
	client atomic.Pointer[forward.Client] // nil until it has been found or started

	mu      sync.Mutex
	opening *opening // while it is being found or started

	reading sync.RWMutex // held while its counters are read, which are gone when it is closed
}

func newForwarder(runDir string, restarted func(), log *slog.Logger) (*forwarder, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("looking for the port forwarder's program: %w", err)
	}
	f := &forwarder{options: companion.Options{
		Dir: filepath.Join(runDir, "ports"), Command: []string{self, "port-forwarder"}, Log: log, Restarted: restarted,
	}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f, nil
}

// opening is a search for the process, or its start, which many may wait for.
type opening struct {
	over   chan struct{} // closed when there is one, or an error
	client *forward.Client
	err    error
}

// open finds or starts the process. That goes on when the context is over.
func (f *forwarder) open(ctx context.Context) (*forward.Client, error) {
	if client := f.client.Load(); client != nil {
		return client, nil
	}
	o, err := f.begin()
	if err != nil {
		return nil, err
	}
	select {
	case <-o.over:
		return o.client, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("the port forwarder is not there yet: %w", ctx.Err())
	}
}

// begin begins to look for the process, unless that is being done.
func (f *forwarder) begin() (*opening, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return nil, os.ErrClosed
	}
	if f.opening == nil {
		f.opening = &opening{over: make(chan struct{})}
		go f.find(f.opening)
	}
	return f.opening, nil
}

func (f *forwarder) find(o *opening) {
	defer close(o.over)
	if o.client = f.client.Load(); o.client == nil { // none has been found since it was looked for
		o.client, o.err = forward.Open(f.ctx, f.options)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opening = nil
	if o.err == nil {
		f.client.Store(o.client)
	}
}

// left says whether there may be a process: this agent has it started, or an earlier one
// has, and it still runs.
func (f *forwarder) left() bool {
	f.mu.Lock()
	opening := f.opening != nil
	f.mu.Unlock()
	return opening || f.client.Load() != nil || companion.Running(f.options.Dir)
}

func (f *forwarder) Claim(ctx context.Context, owner string, ports []forward.Port) error {
	client, err := f.open(ctx)
	if err != nil {
		return err
	}
	return client.Claim(ctx, owner, ports)
}

func (f *forwarder) Point(ctx context.Context, owner string, targets []forward.Target) error {
	client, err := f.open(ctx)
	if err != nil {
		return err
	}
	return client.Point(ctx, owner, targets)
}

func (f *forwarder) Release(ctx context.Context, owner string) error {
	if !f.left() {
		return nil
	}
	client, err := f.open(ctx)
	if err != nil {
		return err
	}
	return client.Release(ctx, owner)
}

func (f *forwarder) Owners(ctx context.Context) ([]string, error) {
	if !f.left() {
		return nil, nil
	}
	client, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	all, err := client.List(ctx)
	var names []string
	for _, o := range all {
		names = append(names, o.Name)
	}
	return names, err
}

// measure is what the process has done and has; all is zero where there is none.
func (f *forwarder) measure() metrics.Ports {
	p := metrics.Ports{Connections: map[string]uint64{}}
	for _, result := range forward.Results {
		p.Connections[result] = 0
	}
	f.reading.RLock()
	defer f.reading.RUnlock()
	client := f.client.Load()
	if client == nil {
		return p
	}
	c := client.Counters()
	maps.Copy(p.Connections, c.Connections)
	p.BytesIn, p.BytesOut, p.DatagramsDropped = c.BytesIn, c.BytesOut, c.DatagramsDropped
	p.Active, p.Held, p.UDPClients = c.Active, c.Held, c.Sessions
	return p
}

// close lets go of the process, which goes on if it has something to do.
func (f *forwarder) close() error {
	f.mu.Lock()
	f.cancel()
	o := f.opening
	f.mu.Unlock()
	if o != nil {
		<-o.over
	}
	f.reading.Lock()
	defer f.reading.Unlock()
	if client := f.client.Swap(nil); client != nil {
		return client.Close()
	}
	return nil
}
