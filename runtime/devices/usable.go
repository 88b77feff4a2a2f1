package devices

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"
)

// complete returns device nodes with what is not said of them, which the node's own say.
func complete(nodes []*cdispecs.DeviceNode) ([]*cdispecs.DeviceNode, error) {
	nodes = slices.Clone(nodes)
	for i, said := range nodes {
		own := *said
		nodes[i] = &own
	}
	// The library does it when it applies them, and notes it in them.
	edits := cdi.ContainerEdits{ContainerEdits: &cdispecs.ContainerEdits{DeviceNodes: nodes}}
	return nodes, edits.Apply(&specs.Spec{})
}

// usable finds out whether what is said of a device is there, and can be done. The OCI
// runtime would find that out as well, and say so as if the workload were wrong.
func usable(e *cdispecs.ContainerEdits) error {
	if len(e.NetDevices) > 0 {
		return errors.New("network interfaces (netDevices) cannot be given to containers")
	}
	for _, m := range e.Mounts {
		if err := there(m.HostPath, bound(m)); err != nil {
			return fmt.Errorf("what is mounted at %s: %w", m.ContainerPath, err)
		}
	}
	for _, h := range e.Hooks {
		// Those inside the container are the image's.
		if err := there(h.Path, h.HookName != cdi.StartContainerHook); err != nil {
			return fmt.Errorf("a hook (%s): %w", h.HookName, err)
		}
	}
	return nil
}

// bound says whether a mount shows something of the node.
func bound(m *cdispecs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

func there(path string, wanted bool) error {
	if !wanted || !filepath.IsAbs(path) {
		return nil
	}
	_, err := os.Stat(path)
	return err
}
