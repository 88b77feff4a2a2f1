// Package rig is what tests of the real thing stand on: a private containerd
// of either supported version, and images made on the spot.
//
//	c := rig.Containerd(t, rig.V24)     // its own root, state, socket and cgroup
//	tar := rig.Archive(t, rig.Busybox(t, rig.Image{}))
//
// [Containerd] ends what it started when the test ends, and fails the test
// when that had left a shim, a mount or a cgroup behind. What a test binary that crashed
// left is cleaned by the next one that runs.
//
// Such tests need root. Without it, [Root] skips them, but fails them where
// CI=true promises a machine that has everything.
package rig
