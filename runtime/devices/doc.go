// Package devices knows the devices that a node has for its containers, by its
// specifications of the Container Device Interface (CDI).
//
// These are files in a few directories, written by the vendors' tools or by hand. Each
// says, of the devices that it names, what a container needs to use one: device nodes,
// mounts, variables, hooks.
//
//	all := devices.Open([]string{"/etc/cdi", "/var/run/cdi"}, log)
//	set, err := all.Resolve([]string{"nvidia.com/gpu=0"})
//	set.Env()      // to be merged by whoever makes the container's environment
//	set.Edits()    // all else, to be applied to its OCI spec
//
// Nothing watches the directories. [Node.Resolve] looks at the names and times of the files
// in them, and reads them anew when one has changed. A file that cannot be used is logged
// then, and those beside it are used.
//
// A device is missing when no file has it, and also when what its file speaks of is not
// there: a file outlives the driver that it was written for. Both may be otherwise soon,
// and say nothing of what asks for the device.
package devices
