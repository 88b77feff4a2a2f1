package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sync/semaphore"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/runtime/netns"
)

// ErrExhausted is wrapped when there is no free address.
var ErrExhausted = errors.New("the container network has no free address: stop something, or give it larger subnets (network.subnets in the configuration)")

// Network is the node's container network. Its methods may be called by many goroutines.
type Network struct {
	cfg Config
	cni *libcni.CNIConfig
	// making and undoing bound how many attachments are connected, and disconnected, at the
	// same time.
	making, undoing *semaphore.Weighted
	// due, of capacity 1, asks for a look at what is ready and what is dead.
	due     chan struct{}
	keeping sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc

	bridging sync.Mutex // held while the bridge is made

	mu      sync.Mutex
	subnets []netip.Prefix // of the bridge; none with a configuration of the node's own
	wanted  bool           // somebody uses the network
	ready   []*Attachment
	claimed map[string]*Attachment // by owner
	dead    []*Attachment          // to be disconnected
}

// atOnce is how many attachments are connected at the same time, and how many disconnected.
const atOnce = 4

// refillPause is how long plugins wait that are to replace what was claimed: the launch which
// it is for would have to share the processors with them.
const refillPause = 200 * time.Millisecond

// lockPatience is how long plugins of an earlier process have to end by themselves.
const lockPatience = 10 * time.Second

// Open takes up what there is. No plugin is needed, nor executed, before something is.
func Open(cfg Config) (*Network, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, string, time.Duration) {}
	}
	if err := cfg.makeDirs(); err != nil {
		return nil, err
	}
	lock := filepath.Join(cfg.RunDir, "plugins.lock")
	if err := awaitPlugins(lock, lockPatience, cfg.Log); err != nil {
		return nil, err
	}
	n := &Network{
		cfg:     cfg,
		cni:     libcni.NewCNIConfigWithCacheDir(cfg.PluginDirs, cfg.cacheDir(), &plugins{lock: lock}),
		making:  semaphore.NewWeighted(atOnce),
		undoing: semaphore.NewWeighted(atOnce),
		due:     make(chan struct{}, 1),
		claimed: map[string]*Attachment{},
	}
	if err := n.takeUp(); err != nil {
		return nil, err
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.keeping.Go(n.keep)
	n.look()
	return n, nil
}

// Close leaves all attachments as they are, for the next process.
func (n *Network) Close() error {
	n.cancel()
	n.keeping.Wait()
	return nil
}

// takeUp reads the records, and sorts out what became of each attachment.
func (n *Network) takeUp() error {
	records, err := n.cfg.records()
	if err != nil {
		return err
	}
	for _, r := range records {
		a := n.attachment(r)
		switch {
		case r.Result != nil && r.Owner != "":
			// Also when it is not mounted any more: its container may run in it all the same.
			n.claimed[r.Owner] = a
			n.wanted = true
		case r.Result == nil || !netns.Pinned(a.NetNS):
			n.dead = append(n.dead, a)
		default:
			n.ready = append(n.ready, a)
			n.wanted = true
		}
	}
	if n.wanted {
		if _, err := n.refresh(); err != nil {
			n.cfg.Log.Warn("the container network cannot be used", "error", err)
		}
	}
	explained, err := n.dropPins(records)
	return errors.Join(err, n.dropAddresses(explained), n.keepAddresses(), n.dropResults(explained))
}

// dropPins removes namespaces that no record explains, unless somebody is in one: records
// may have been lost, or damaged. They are in all that is returned.
func (n *Network) dropPins(records []record) (explained []record, err error) {
	entries, err := os.ReadDir(n.cfg.pinDir())
	if err != nil {
		return nil, fmt.Errorf("reading the network namespaces: %w", err)
	}
	for _, e := range entries {
		path := n.cfg.pinPath(e.Name())
		switch {
		case recorded(records, e.Name()):
		case netns.Inhabited(path):
			n.cfg.Log.Warn("there are processes in a network namespace that no record explains; it is left alone, with its addresses", "namespace", path)
			records = append(records, record{ID: e.Name()})
		default:
			err = errors.Join(err, netns.Unpin(path))
		}
	}
	return records, err
}

// dropAddresses frees addresses on the bridge that no record explains, as when the state
// directory was lost, or one is damaged. host-local keeps a file for each, which says whose it is.
func (n *Network) dropAddresses(records []record) error {
	files, err := filepath.Glob(filepath.Join(n.cfg.ipamDir(), "*", "*"))
	for _, file := range files {
		if _, parsed := netip.ParseAddr(filepath.Base(file)); parsed != nil {
			continue
		}
		id, _, _ := strings.Cut(string(readFile(file)), "\r\n")
		if id = strings.TrimSpace(id); !recorded(records, id) {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return err
}

// dropResults removes what libcni has kept of attachments that no record explains.
func (n *Network) dropResults(records []record) error {
	files, err := filepath.Glob(filepath.Join(n.cfg.cacheDir(), "results", "*"))
	for _, file := range files {
		explains := func(r record) bool { return strings.HasSuffix(file, cacheSuffix(r.ID)) }
		if !slices.ContainsFunc(records, explains) {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return err
}

func recorded(records []record, id string) bool {
	return slices.ContainsFunc(records, func(r record) bool { return r.ID == id })
}

// Check says what keeps containers from the network; nil if nothing is known to. It has
// attachments made ready, as somebody is about to need one.
func (n *Network) Check() error {
	_, err := n.refresh()
	if err == nil {
		n.mu.Lock()
		n.wanted = true
		n.mu.Unlock()
		n.look()
	}
	return err
}

// maxPorts is how many interfaces the kernel connects to one bridge (BR_MAX_PORTS, less 1).
const maxPorts = 1023

// Room is how many containers the network has room for; false when that is not known, as
// with a configuration of the node's own.
func (n *Network) Room() (int, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	room := maxPorts
	for _, s := range n.subnets {
		// Without the network's own, the node's, and that of broadcasts.
		if free := s.Addr().BitLen() - s.Bits(); free < 30 {
			room = min(room, 1<<free-3)
		}
	}
	return room, len(n.subnets) > 0
}

// refresh reads what configuration is in force now, and returns it. Attachments that are
// ready by another one are not used any more.
func (n *Network) refresh() (*libcni.NetworkConfigList, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var subnets []netip.Prefix
	list, err := n.cfg.own()
	if err == nil && list == nil {
		list, subnets, err = n.cfg.bridged()
	}
	if err != nil {
		return nil, err
	}
	if err := n.cfg.missing(list); err != nil {
		return nil, err
	}
	n.subnets = subnets
	n.ready = slices.DeleteFunc(n.ready, func(a *Attachment) bool {
		outdated := !a.record.made(list.Bytes)
		if outdated {
			n.dead = append(n.dead, a)
		}
		return outdated
	})
	return list, nil
}

// Claim gives an owner, who has none yet, an attachment.
func (n *Network) Claim(ctx context.Context, owner string) (*Attachment, error) {
	if _, taken := n.Of(owner); taken {
		return nil, fmt.Errorf("%s has a network namespace already", owner)
	}
	a := n.takeReady()
	if a == nil {
		var err error
		if a, err = n.make(ctx); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	a.record.Owner = owner
	n.mu.Unlock()
	if err := errors.Join(n.cfg.save(a.record), failpoint.Error("network.claimed")); err != nil {
		n.bury(a)
		return nil, err
	}
	n.mu.Lock()
	n.claimed[owner], n.wanted = a, true
	none := len(n.ready) == 0
	n.mu.Unlock()
	if none {
		n.look()
	} else {
		time.AfterFunc(refillPause, n.look)
	}
	return a, nil
}

// takeReady takes one that is ready, and whose namespace nobody has unmounted.
func (n *Network) takeReady() *Attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.ready) > 0 {
		a := n.ready[0]
		n.ready = n.ready[1:]
		if netns.Pinned(a.NetNS) {
			return a
		}
		n.dead = append(n.dead, a)
	}
	return nil
}

// Of is the attachment of an owner.
func (n *Network) Of(owner string) (*Attachment, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.claimed[owner]
	return a, ok
}

// Owners are all who have one.
func (n *Network) Owners() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.claimed))
}

// Ready is how many attachments are ready.
func (n *Network) Ready() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ready)
}

// Release disconnects what an owner has, whose container is gone. It may be called again
// until it succeeds, and for one that has nothing.
func (n *Network) Release(ctx context.Context, owner string) error {
	a, ok := n.Of(owner)
	if !ok {
		return nil
	}
	if err := n.disconnect(ctx, a); err != nil {
		return err
	}
	n.mu.Lock()
	if n.claimed[owner] == a {
		delete(n.claimed, owner)
	}
	n.mu.Unlock()
	n.look()
	return nil
}

// bury leaves an attachment to be disconnected in the background.
func (n *Network) bury(a *Attachment) {
	n.mu.Lock()
	n.dead = append(n.dead, a)
	n.mu.Unlock()
	n.look()
}
