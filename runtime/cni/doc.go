// Package cni connects containers to the node's container network, by CNI plugins.
//
// A container on the network gets a network namespace that is connected before it is
// needed: a [Network] keeps a few ready, so that a launch does not wait for plugins. The
// life of an [Attachment], which is one namespace with its addresses, is
//
//	n, err := cni.Open(cni.Config{...})       // takes up what an earlier process left
//	a, err := n.Claim(ctx, instance)          // one that is ready, or else a new one
//	…                                         // a container is made in a.NetNS, and deleted
//	err = n.Release(ctx, instance)            // disconnected; its addresses are free again
//
// None is ever used twice. Each has a record in StateDir, which is on disk before the first
// plugin is executed and there until the last one has succeeded. Whatever a process does
// not live to complete, the next one completes or undoes: an attachment that is complete
// and claimed by nobody is ready again if the configuration is still the one that it was
// made by, a claimed one stays claimed until its owner is deleted, mounted still or not, and
// any other is disconnected. The IDs that plugins are given are random, so that disconnecting again,
// as CNI allows it, never frees what is another's by now. Plugins that outlive the process
// which started them are waited for, and ended if they hang: they hold a lock that they have inherited.
//
// The network is the node's own if it has a configuration for CNI, and else a bridge that
// this package describes (bridge.go). It is made by libcni and not by go-cni on top of it,
// which cannot be told where to keep what it needs to disconnect, and writes what plugins
// say to its own standard error.
package cni
