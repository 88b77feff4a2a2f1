package runtime

import (
	"strings"
	"testing"
)

// A snapshotter that containerd does not have is named, with those that it has.
func TestChooseSnapshotter(t *testing.T) {
	for _, c := range []struct {
		configured, works string
		want, complaint   string
	}{
		{"", "native overlayfs", "overlayfs", ""},
		{"", "native", "native", ""},
		{"native", "native overlayfs", "native", ""},
		{"nope", "overlayfs native", "", `snapshotter "nope", which [containerd]`},
		{"nope", "overlayfs native", "", "there are native, overlayfs"},
		{"", "zfs", "", "there are zfs"},
	} {
		got, err := chooseSnapshotter(c.configured, strings.Fields(c.works))
		if got != c.want || (err != nil) != (c.complaint != "") || err != nil && !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%q of %s: %q, %v", c.configured, c.works, got, err)
		}
	}
}
