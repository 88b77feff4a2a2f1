// Package ocispec decides what a container is and may do: it turns an image's
// configuration and a launch spec into an OCI runtime spec.
//
// [Build] applies the functions in options, in the order in which they stand
// there; each is responsible for one part of the spec. It reads nothing of
// the node but what [Params] gives it, so that a whole spec can be held
// against a golden file; [ReadHost] and [CheckMounts] look at the node.
//
// A container is confined unless its spec says otherwise: no new privileges,
// the default seccomp profile, few capabilities, masked paths, a limit of
// processes, no core dumps, a network with loopback alone. There is no
// environment in the result: values of secrets never pass through this package.
package ocispec
