package agent

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/purserd/purser/agent/config"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/private"
)

// onContainerd is an agent whose containerd is at an address.
func onContainerd(t *testing.T, address string) *Agent {
	t.Helper()
	rig.Root(t)
	a := keeper(t, filepath.Join(t.TempDir(), "state.db"), config.Images{})
	a.metrics = metrics.New(a.build, a, metrics.Labels{})
	dir := t.TempDir()
	r, err := runtime.New(runtime.Config{
		Address: address, Namespace: "purser", Node: "test", Wrapper: rig.Wrapper(t), Logger: a.log,
		RunDir: filepath.Join(dir, "run"), RootDir: filepath.Join(dir, "rootfs"), LogDir: filepath.Join(dir, "logs"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), private.Unmount(filepath.Join(dir, "run", "private"))); err != nil {
			t.Error(err)
		}
	})
	a.runtime = r
	return a
}

// fakeContainerd has each call answered by a function.
func fakeContainerd(t *testing.T, answer func(ctx context.Context, method string) error) (address string) {
	t.Helper()
	address = filepath.Join(t.TempDir(), "containerd.sock")
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		if err := errors.Join(stream.RecvMsg(&emptypb.Empty{}), answer(stream.Context(), method)); err != nil {
			return err
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return address
}

// A containerd that hangs holds up nobody who does not need it: what can be asked
// before all writers are locked out is, and the rest has an end.
func TestRemovalLocksWritersOutForSeconds(t *testing.T) {
	var a *Agent
	free, bounded := false, false
	a = onContainerd(t, fakeContainerd(t, func(ctx context.Context, method string) error {
		switch method {
		case "/containerd.services.containers.v1.Containers/ListStream":
			return status.Error(codes.Unimplemented, "an old containerd")
		case "/containerd.services.containers.v1.Containers/List":
			if free = a.writing.TryLock(); free {
				a.writing.Unlock()
			}
			return nil
		case "/containerd.services.images.v1.Images/Get":
			end, ok := ctx.Deadline()
			bounded = ok && time.Until(end) <= removalTimeout
		}
		return status.Error(codes.NotFound, "no such image")
	}))
	if went, err := a.removeIdle(t.Context(), runtime.Image{Ref: "localhost/a:1"}, removal{}); went || err != nil {
		t.Errorf("%v, %v", went, err)
	}
	if !free || !bounded {
		t.Errorf("while containers were listed writers could go on: %v; the removal had an end: %v", free, bounded)
	}
	bounded = false
	var refusal *Refusal
	if err := a.RemoveImage(t.Context(), "localhost/a:1"); !errors.As(err, &refusal) || refusal.Reason != NotFound || !bounded {
		t.Errorf("%v; the removal had an end: %v", err, bounded)
	}
}

// What is in an image where secret files are to be is known before writers are locked
// out: the check that follows asks containerd nothing.
func TestImagesAreLookedIntoAhead(t *testing.T) {
	daemon := rig.Containerd(t, rig.V24)
	a := onContainerd(t, daemon.Address)
	a.secrets = storeWith(t, map[string]string{"KEY": "value"})
	archive := rig.Archive(t, rig.Busybox(t, rig.Image{}))
	imported, err := a.runtime.ImportImages(t.Context(), archive, runtime.ImportOptions{Name: "localhost/app:1"})
	if err != nil {
		t.Fatal(err)
	}
	spec := &purserv1.LaunchSpec{
		App: proto.String("a"), Function: proto.String("f"), Environment: proto.String("dev"),
		Image:   &purserv1.Image{Ref: &imported[0].Ref},
		Secrets: []*purserv1.SecretRef{{Name: proto.String("s"), File: &purserv1.SecretFile{Path: proto.String("/run/secrets/s")}}},
	}
	image := a.lookAhead(t.Context(), spec).seen[imported[0].Ref].image
	resolution, err := inject.Resolve(t.Context(), a.secrets, inject.Request{Environment: "dev", Refs: spec.GetSecrets()})
	if err != nil || image == nil {
		t.Fatalf("image %v, %v", image, err)
	}
	daemon.Stop()
	if err := a.runtime.CheckFiles(t.Context(), image, spec, resolution.Directories); err != nil {
		t.Errorf("containerd is asked again: %v", err)
	}
}
