// Package netns makes network namespaces, and does things in them.
//
// A thread is in a namespace, not a process, and what a thread makes stays in the one that
// the thread was in: sockets above all. So something is done in another namespace by having
// a thread go there and come back:
//
//	err := netns.Do("/run/…/netns/x", func() error { … })  // in one that is mounted on a file
//	err := netns.DoIn(file, func() error { … })            // in one that is open
//	err := netns.DoInNew(func() error { … })               // in one that is gone afterwards
//
// What is done must stay on its thread: it starts no goroutine that matters, and looks up
// no names. A thread that cannot come back ends, and it is never the process's first: that
// one's namespace is what others take for the process's, as in /proc/self/net.
//
// A namespace lives as long as somebody is in it, has it open, or it is mounted on a file:
//
//	err := netns.Pin(path, func() error { … })  // a new one, in which something is done first
//	err := netns.Unpin(path)                    // when nobody is in it any more
package netns
