// Package runtime makes containers: it is the one place that speaks to
// containerd.
//
// A [Runtime] is made with [New], which does not need containerd to be there;
// every call connects by itself and fails with [ErrUnavailable] while it
// cannot. The life of a container is
//
//	img, err := r.Image(ctx, "busybox")            // present on the node, unpacked
//	err = r.Create(ctx, runtime.Instance{...})     // record, snapshot, task; nothing runs yet
//	pid, err := r.Start(ctx, id)                   // the image's or the spec's command runs
//	exit, err := r.Wait(ctx, id)                   // how it ended
//	err = r.Delete(ctx, id)                        // nothing of it is left, but its logs
//
// Containers outlive the agent. After a restart [Runtime.List] says what there
// is and [Runtime.OpenLogs] takes the output of what runs up again.
//
// What is left on the node of a container that is gone is found and removed by a
// [Sweeper]. A container has a shim of its own, or shares one: shim.go says which, and
// anchor.go what holds a shared one.
//
// What a container may do is decided in package ocispec, from the image's
// configuration and the launch spec alone. The environment, which holds the
// values of secrets, is put into the OCI spec afterwards, in environ.go and
// nowhere else. What containers write is kept by package logs.
package runtime
