package cni

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/runtime/netns"
)

// interfaceName is the container's interface.
const interfaceName = "eth0"

// Attachment is a network namespace that is connected.
type Attachment struct {
	// NetNS is the path of the namespace.
	NetNS string
	// Addresses are its own, and Gateways the node's on the same network; IPv4 first.
	Addresses, Gateways []netip.Addr

	record record
	mu     sync.Mutex
	gone   bool // disconnected; guarded by mu
}

func (n *Network) attachment(r record) *Attachment {
	return &Attachment{NetNS: n.cfg.pinPath(r.ID), Addresses: r.addresses(), Gateways: r.gateways(), record: r}
}

// make makes an attachment. When ctx ends it completes it all the same, for somebody else.
func (n *Network) make(ctx context.Context) (*Attachment, error) {
	if err := n.making.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer n.making.Release(1)
	list, err := n.refresh()
	if err != nil {
		return nil, err
	}
	a, err := n.connect(list)
	if errors.Is(err, errInUse) {
		a, err = n.connect(list) // which is said of it now
	}
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		n.mu.Lock()
		n.ready = append(n.ready, a)
		n.mu.Unlock()
		return nil, ctx.Err()
	}
	return a, nil
}

// connect makes a namespace and has plugins connect it. On an error nothing of it is left,
// or will not be for long.
func (n *Network) connect(list *libcni.NetworkConfigList) (*Attachment, error) {
	r := record{ID: newID(), Config: canonical(list.Bytes)}
	if err := n.cfg.save(r); err != nil {
		return nil, err
	}
	failpoint.Here("network.recorded")
	a := n.attachment(r)
	began := time.Now()
	result, err := n.add(list, a)
	n.cfg.Observe(Add, resultOf(err), time.Since(began))
	if err == nil {
		r.Result = result
		a = n.attachment(r)
		if err = errors.Join(n.cfg.save(r), n.checkUnused(a), failpoint.Error("network.connected")); err == nil {
			return a, nil
		}
	}
	if exhausted(err) {
		err = fmt.Errorf("%w (%w)", ErrExhausted, err)
	}
	if undone := n.disconnect(context.Background(), a); undone != nil {
		n.bury(a)
	}
	if errors.Is(err, errInUse) {
		err = errors.Join(err, n.keepAddresses())
	}
	return nil, err
}

func (n *Network) add(list *libcni.NetworkConfigList, a *Attachment) (*types100.Result, error) {
	n.mu.Lock()
	subnets := n.subnets
	n.mu.Unlock()
	if len(subnets) > 0 {
		if err := errors.Join(n.makeBridge(), acceptAdvertised(), n.cfg.masquerade(subnets)); err != nil {
			return nil, err
		}
	}
	if err := netns.Pin(a.NetNS, prepare); err != nil {
		return nil, err
	}
	if err := failpoint.Error("network.pinned"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pluginTime)
	defer cancel()
	result, err := n.cni.AddNetworkList(ctx, list, runtimeConf(a))
	if err != nil {
		return nil, fmt.Errorf("connecting a network namespace to %s: %w", list.Name, err)
	}
	if err := failpoint.Error("network.added"); err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(result)
}

func runtimeConf(a *Attachment) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: a.record.ID, NetNS: a.NetNS, IfName: interfaceName}
}

func newID() string {
	id := make([]byte, 8)
	rand.Read(id)
	return "purser-" + hex.EncodeToString(id)
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return OK
	case exhausted(err):
		return Exhausted
	}
	return Failed
}

// disconnect undoes connect, whatever of it had been done, once.
func (n *Network) disconnect(ctx context.Context, a *Attachment) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone {
		return nil
	}
	if err := n.undoing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer n.undoing.Release(1)
	began := time.Now()
	err := n.del(ctx, a)
	n.cfg.Observe(Del, resultOf(err), time.Since(began))
	if err != nil {
		return err
	}
	if err := errors.Join(failpoint.Error("network.deleted"), netns.Unpin(a.NetNS), failpoint.Error("network.unpinned")); err != nil {
		return err
	}
	if err := n.cfg.forget(a.record.ID); err != nil {
		return err
	}
	a.gone = true
	return nil
}

// del has plugins disconnect a namespace. For one that is not there any more CNI wants no
// path.
func (n *Network) del(ctx context.Context, a *Attachment) error {
	list, err := libcni.NetworkConfFromBytes(a.record.Config)
	if err != nil {
		return fmt.Errorf("reading by what configuration %s was connected: %w", a.record.ID, err)
	}
	if err := n.cfg.missing(list); err != nil {
		return err
	}
	conf := runtimeConf(a)
	if !netns.Pinned(a.NetNS) {
		conf.NetNS = ""
	}
	ctx, cancel := context.WithTimeout(ctx, pluginTime)
	defer cancel()
	if err = n.cni.DelNetworkList(ctx, list, conf); err != nil && conf.NetNS == "" {
		// What libcni has kept of it may have been damaged with the power that was lost.
		n.dropCache(list.Name, a)
		err = n.cni.DelNetworkList(ctx, list, conf)
	}
	if err != nil {
		return fmt.Errorf("disconnecting network namespace %s from %s: %w", a.record.ID, list.Name, err)
	}
	return nil
}

func (n *Network) dropCache(network string, a *Attachment) {
	_ = os.Remove(filepath.Join(n.cfg.cacheDir(), "results", network+cacheSuffix(a.record.ID)))
}

// cacheSuffix ends the name of the file in which libcni keeps what it made.
func cacheSuffix(id string) string { return "-" + id + "-" + interfaceName }
