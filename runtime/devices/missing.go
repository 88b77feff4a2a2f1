package devices

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/purserd/purser/api/launchspec"
)

// missing says of a device, by its place among those asked for, why it cannot be had.
type missing struct {
	place int
	text  string
}

func (m *missing) Error() string { return fmt.Sprintf("resources.devices[%d]: %s", m.place, m.text) }
func (m *missing) Unwrap() error { return ErrMissing }

// shown bounds how much of a kind an error tells: a node may have hundreds of devices, and a
// spec name as many.
const shown = 6

// first joins the first of errors. A spec may name more than a hundred devices, and what is
// told of each is kept with every try to start it.
func first(wrong []error) error {
	if more := len(wrong) - shown; more > 0 {
		wrong = append(wrong[:shown:shown], fmt.Errorf("%w: %d more of resources.devices", ErrMissing, more))
	}
	return errors.Join(wrong...)
}

// unknown says of a device that no specification names where it was looked for, and what it
// may have been meant for.
func (n *Node) unknown(name string, k *known) string {
	if len(n.dirs) == 0 {
		return fmt.Sprintf("this node has no device %s, and none at all: cdi_spec_dirs in its configuration is empty", name)
	}
	text := "this node has no device " + name
	if near, ok := launchspec.Nearest(name, k.names()); ok {
		text += " (did you mean " + near + "?)"
	}
	text += fmt.Sprintf(": the CDI specifications in %s name %s", strings.Join(n.dirs, " and "), some(name, k.names()))
	if len(k.broken) > 0 {
		text += "; of no use are " + strings.Join(k.broken[:min(shown, len(k.broken))], ", ")
	}
	return text + "; have one written that names it, by its vendor's tool (for nvidia.com: nvidia-ctk cdi generate)"
}

// some are some of the names of devices, those of a device's own kind first.
func some(name string, names []string) string {
	kind, _, _ := strings.Cut(name, "=")
	slices.SortStableFunc(names, func(a, b string) int { return other(a, kind) - other(b, kind) })
	switch rest := len(names) - shown; {
	case len(names) == 0:
		return "none"
	case rest > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), rest)
	}
	return strings.Join(names, ", ")
}

// other is 0 for a device of a kind, and 1 for one of another.
func other(name, kind string) int {
	if strings.HasPrefix(name, kind+"=") {
		return 0
	}
	return 1
}

// unusable says of a device why what its specification says cannot be done.
func unusable(name, path string, err error) string {
	return fmt.Sprintf("device %s cannot be used as %s says: %v; have that written anew if the node has changed since, by its vendor's tool (for nvidia.com: nvidia-ctk cdi generate)", name, path, err)
}
