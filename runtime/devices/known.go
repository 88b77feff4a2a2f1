package devices

import (
	"fmt"
	"maps"
	"slices"

	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// known is what a node's specifications say. It is not changed any more.
type known struct {
	files   []file
	devices map[string]entry // by qualified name
	// broken says what cannot be used, and why.
	broken []string
}

// entry is a device.
type entry struct {
	device *cdi.Device
	// rank is that of the directory, and twice is set when two files in that have it: neither
	// counts then.
	rank  int
	twice bool
}

// learn reads those files that have changed since something was known.
func learn(files []file, wrong []error, before *known) *known {
	k := &known{files: files, devices: map[string]entry{}}
	for _, err := range wrong {
		k.broken = append(k.broken, err.Error())
	}
	for i := range files {
		f := &files[i]
		if old := before.file(f.path); old != nil && old.state == f.state {
			f.spec, f.err = old.spec, old.err // its rank may be another, of a directory named twice
		} else {
			f.read()
		}
		if f.err != nil {
			k.broken = append(k.broken, f.problem())
			continue
		}
		k.add(f)
	}
	return k
}

// add adds the devices of a file, which take the place of those that a directory before its
// own has.
func (k *known) add(f *file) {
	for _, d := range f.spec.Devices {
		name := parser.QualifiedName(f.spec.GetVendor(), f.spec.GetClass(), d.Name)
		other, there := k.devices[name]
		e := entry{device: f.spec.GetDevice(d.Name), rank: f.rank, twice: there && other.rank == f.rank}
		if e.twice {
			k.broken = append(k.broken, fmt.Sprintf("%s: device %s is also in %s, and neither counts", f.path, name, other.device.GetSpec().GetPath()))
		}
		k.devices[name] = e
	}
}

// file is what is known of a file; nil for nothing.
func (k *known) file(path string) *file {
	if k == nil {
		return nil
	}
	if i := slices.IndexFunc(k.files, func(f file) bool { return f.path == path }); i >= 0 {
		return &k.files[i]
	}
	return nil
}

// device returns a device; nil when there is none.
func (k *known) device(name string) *cdi.Device {
	if e := k.devices[name]; !e.twice {
		return e.device
	}
	return nil
}

// names of the devices, in order.
func (k *known) names() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(k.devices)) {
		if !k.devices[name].twice {
			names = append(names, name)
		}
	}
	return names
}
