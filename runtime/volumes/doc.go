// Package volumes keeps named directories for what is to outlast containers.
//
// A volume is the directory DIR/ENVIRONMENT/NAME and nothing besides: its owner
// and permissions are the directory's, its age the file system's. It comes into
// being, and goes, by one rename, so that a crash leaves a volume or none. Names
// that start with a dot are those of directories on their way in or out; what
// an earlier process left of them is removed by [Store.Sweep].
//
// What is inside is the containers' to change at any time: [Store.Measure]
// follows no link out of a volume, and neither it nor removing takes more of the
// agent, however deep directories are nested.
package volumes
