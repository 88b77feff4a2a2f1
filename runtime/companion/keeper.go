package companion

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options are what the agent says of a companion.
type Options struct {
	// Dir is the companion's, and must not survive a reboot.
	Dir string
	// Command starts it: the path of an executable, and what has that serve in the
	// directory that follows the flag --dir, as purser's commands and [Main] do.
	Command []string
	// Heartbeat is how often it has to answer; 5 s when 0.
	Heartbeat time.Duration
	// Log gets what no caller can be told.
	Log *slog.Logger
	// Restarted, if not nil, is called whenever a companion had died and another one has
	// been started. Requests wait until it returns.
	Restarted func()
}

// Beat is the heartbeat, or its default.
func (o Options) Beat() time.Duration { return cmp.Or(o.Heartbeat, 5*time.Second) }

// Config is Options, and what kind of companion it is.
type Config[L Link] struct {
	Options
	// Name is what messages call it.
	Name string
	// Socket is where it listens, in its directory.
	Socket string
	// Flags follow --dir and the directory.
	Flags []string
	// MissedBeats are how many heartbeats long it may be silent before it is killed.
	MissedBeats int
	// Absence says what it means that none runs.
	Absence string
	// Link has its protocol spoken by a connection, which is the link's to close.
	Link func(*net.UnixConn) L
	// Leave has one of another version end. An error has it killed, unless it wraps
	// [ErrStays]. Nil for companions of which the next one takes over from the one that
	// runs; of others the next one waits for the lock of the directory.
	Leave func(context.Context, L) error
	// Gap, if not nil, is called before one is made to end, as there is none for a moment.
	Gap func()
	// Adopt, if not nil, is called with each that is found or started, before it is used.
	Adopt func(context.Context, L) error
}

// Keeper sees to it that there is a companion, and has one to ask. Its methods may be called
// by many goroutines.
type Keeper[L Link] struct {
	c Config[L]

	ctx    context.Context
	cancel context.CancelFunc
	kept   chan struct{} // closed when no companion is kept up any more

	mu      sync.Mutex
	current *process[L]   // nil while there is none
	changed chan struct{} // closed, and replaced, when current changes
}

// Open finds the companion that runs in the directory, or starts one. One of another
// executable gives way to ours. The context is that of Open alone.
func Open[L Link](ctx context.Context, c Config[L]) (*Keeper[L], error) {
	if as := os.Getenv(variable); as != "" {
		return nil, fmt.Errorf("%s was to be the %s, and is not", os.Args[0], as)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the %s: %w", c.Name, err)
	}
	k := &Keeper[L]{c: c, kept: make(chan struct{}), changed: make(chan struct{})}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	first, err := k.find(ctx)
	if err != nil {
		k.cancel()
		return nil, err
	}
	k.set(first)
	go k.keep(first)
	return k, nil
}

// Do has something asked of the companion, and of the next one if it ends before it has
// answered.
func (k *Keeper[L]) Do(ctx context.Context, ask func(L) (answered bool, err error)) error {
	var current *process[L]
	for {
		var err error
		if current, err = k.next(ctx, current); err != nil {
			return err
		}
		answered, err := ask(current.link)
		if err == nil || answered || ctx.Err() != nil {
			return err
		}
	}
}

// next returns the companion that runs, waiting for it if need be. before is one that has
// failed, or nil.
func (k *Keeper[L]) next(ctx context.Context, before *process[L]) (*process[L], error) {
	for {
		k.mu.Lock()
		current, changed := k.current, k.changed
		k.mu.Unlock()
		if current != nil && current != before {
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the %s does not run: %w", k.c.Name, ctx.Err())
		case <-k.ctx.Done():
			return nil, os.ErrClosed
		}
	}
}

func (k *Keeper[L]) set(current *process[L]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = current
	close(k.changed)
	k.changed = make(chan struct{})
}

// Close lets go of the companion, having said goodbye if there is one.
func (k *Keeper[L]) Close(goodbye func(L) error) error {
	k.cancel()
	<-k.kept
	k.mu.Lock()
	current := k.current
	k.current = nil
	k.mu.Unlock()
	if current == nil {
		return nil
	}
	defer current.close()
	return goodbye(current.link)
}

func (k *Keeper[L]) socket() string { return filepath.Join(k.c.Dir, k.c.Socket) }
