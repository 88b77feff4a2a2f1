package devices

import (
	"errors"
	"log/slog"
	"slices"
	"sync"

	"tags.cncf.io/container-device-interface/pkg/cdi"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"
)

// ErrMissing is wrapped when a node does not have a device now.
var ErrMissing = errors.New("no such device on this node")

// Node knows the devices of a node.
type Node struct {
	dirs []string
	log  *slog.Logger

	mu    sync.Mutex
	known *known // nil before it is asked for a device
}

// Open returns the devices of the specifications in directories, those in a later one
// before those in an earlier. Nothing is read yet.
func Open(dirs []string, log *slog.Logger) *Node { return &Node{dirs: dirs, log: log} }

// Set is what a container is given with devices. A nil one is that of no devices.
type Set struct {
	env   []string
	edits *cdi.ContainerEdits
}

// Env are their variables, each NAME=VALUE; of two with one name the later counts.
func (s *Set) Env() []string {
	if s == nil {
		return nil
	}
	return s.env
}

// Edits are all else, nil for nothing.
func (s *Set) Edits() *cdi.ContainerEdits {
	if s == nil {
		return nil
	}
	return s.edits
}

// Resolve returns what belongs to devices, nil for none. The errors of those that are
// missing are in one, and name the place of each.
func (n *Node) Resolve(names []string) (*Set, error) {
	if len(names) == 0 {
		return nil, nil
	}
	k := n.look()
	set := &Set{edits: &cdi.ContainerEdits{ContainerEdits: &cdispecs.ContainerEdits{}}}
	shared := map[*cdi.Spec]bool{}
	var wrong []error
	for i, name := range names {
		device := k.device(name)
		if device == nil {
			wrong = append(wrong, &missing{i, n.unknown(name, k)})
			continue
		}
		if err := set.add(device, shared); err != nil {
			wrong = append(wrong, &missing{i, unusable(name, device.GetSpec().GetPath(), err)})
		}
	}
	if len(wrong) > 0 {
		return nil, first(wrong)
	}
	return set, nil
}

// look returns what is known, and reads first what has changed.
func (n *Node) look() *known {
	n.mu.Lock()
	defer n.mu.Unlock()
	files, wrong := list(n.dirs)
	k := learn(files, wrong, n.known)
	for _, text := range k.broken {
		if n.known == nil || !slices.Contains(n.known.broken, text) {
			n.log.Warn("devices of the node cannot be used", "error", text)
		}
	}
	n.known = k
	return k
}

// add adds what belongs to a device and, with the first of each, what belongs to all devices
// of its file. shared are the files of those before.
func (s *Set) add(device *cdi.Device, shared map[*cdi.Spec]bool) error {
	all := []cdispecs.ContainerEdits{device.ContainerEdits}
	if file := device.GetSpec(); !shared[file] {
		shared[file] = true
		all = append([]cdispecs.ContainerEdits{file.ContainerEdits}, all...)
	}
	for _, e := range all {
		var err error
		if e.DeviceNodes, err = complete(e.DeviceNodes); err != nil {
			return err
		}
		if err := usable(&e); err != nil {
			return err
		}
		s.env, e.Env = append(s.env, e.Env...), nil
		s.edits.Append(&cdi.ContainerEdits{ContainerEdits: &e})
	}
	return nil
}
