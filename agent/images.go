package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/registry"
)

// ImportImages brings the images of an archive onto the node.
func (a *Agent) ImportImages(ctx context.Context, archive io.Reader, name, stem string) ([]*purserv1.NodeImage, error) {
	images, err := a.runtime.ImportImages(ctx, archive, runtime.ImportOptions{Name: name, Stem: stem})
	if err != nil {
		return nil, runtimeError(err)
	}
	a.collect()
	for _, i := range images {
		a.imageUse.touch(i.Ref)
		a.emit(normal, "ImageImported", "", i.Ref, "imported as %s", i.Digest)
	}
	return imageMessages(images), nil
}

// Images lists the images on the node.
func (a *Agent) Images(ctx context.Context) ([]*purserv1.NodeImage, error) {
	images, err := a.runtime.ListImages(ctx)
	if err != nil {
		return nil, runtimeError(err)
	}
	return imageMessages(images), nil
}

// RemoveImage drops an image that no workload names.
func (a *Agent) RemoveImage(ctx context.Context, ref string) error {
	if _, err := runtime.NormalizeRef(ref); err != nil {
		return &Refusal{Reason: Invalid, Err: err}
	}
	removed, err := a.removeUnnamed(ctx, ref)
	if err != nil {
		return err
	}
	a.metrics.Removed(metrics.ByRequest)
	a.emit(normal, "ImageRemoved", "", removed, "removed on request")
	a.collect()
	if err := a.runtime.CollectGarbage(ctx); err != nil {
		// It goes when containerd next collects its garbage.
		a.log.Warn("what an image leaves is not removed yet", "image", removed, "error", err)
	}
	return nil
}

// removeUnnamed removes an image unless a workload names it.
func (a *Agent) removeUnnamed(ctx context.Context, ref string) (removed string, err error) {
	removed, err = a.dropImage(ctx, ref, func(same func(string) bool) error {
		if users := a.imageUsers(same); len(users) > 0 {
			return refuse(Precondition, "image %s is in use by %s; remove them first", ref, strings.Join(users, ", "))
		}
		return nil
	})
	if errors.Is(err, runtime.ErrImageNotFound) {
		return "", &Refusal{Reason: NotFound, Err: fmt.Errorf("image %s: %w; see purser image list", ref, runtime.ErrImageNotFound)}
	}
	return removed, runtimeError(err)
}

// removalTimeout is how long containerd may take to forget an image's name.
const removalTimeout = 5 * time.Second

// dropImage removes an image's name unless inUse has an error. No launch may take the
// image into use meanwhile, so that all who change what is wanted wait for it: not for
// long, should containerd hang.
func (a *Agent) dropImage(ctx context.Context, ref string, inUse func(same func(ref string) bool) error) (removed string, err error) {
	a.writing.Lock()
	defer a.writing.Unlock()
	bounded, cancel := context.WithTimeout(ctx, removalTimeout)
	defer cancel()
	// Also after an error: containerd may have done it and not have said so.
	defer a.removals.Add(1)
	removed, err = a.runtime.RemoveImage(bounded, ref, inUse)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("removing image %s: %w: no answer in %s", ref, runtime.ErrUnavailable, removalTimeout)
	}
	return removed, err
}

// imageUsers are the workloads that are run by a spec that names an image, or may be.
func (a *Agent) imageUsers(same func(ref string) bool) []string {
	var users []string
	for _, w := range a.all("", "") {
		r := w.record()
		if slices.ContainsFunc(specs(r), func(spec *purserv1.LaunchSpec) bool { return same(spec.GetImage().GetRef()) }) {
			users = append(users, fmt.Sprintf("%s (%s)", r.GetId(), r.GetEnvironment()))
		}
	}
	return users
}

func imageMessages(images []runtime.Image) []*purserv1.NodeImage {
	var all []*purserv1.NodeImage
	for _, i := range images {
		all = append(all, imageMessage(i))
	}
	return all
}

func imageMessage(i runtime.Image) *purserv1.NodeImage {
	return &purserv1.NodeImage{Ref: i.Ref, Digest: i.Digest, Size: uint64(i.Size)}
}

// runtimeError gives package runtime's errors their codes.
func runtimeError(err error) error {
	switch {
	case errors.Is(err, runtime.ErrUnavailable), errors.Is(err, runtime.ErrLost):
		return &Refusal{Reason: Later, Err: err}
	case errors.As(err, new(*runtime.PullError)):
		return pullRefusal(err)
	case errors.Is(err, runtime.ErrImageNotFound), errors.Is(err, runtime.ErrNotFound):
		return &Refusal{Reason: NotFound, Err: err}
	}
	return err
}

// pullRefusal gives the reason why an image cannot be had its code.
func pullRefusal(err error) error {
	var failed *runtime.PullError
	errors.As(err, &failed)
	switch {
	case failed.Reason == registry.NotFound:
		return &Refusal{Reason: NotFound, Err: err}
	case registry.Transient(failed.Reason):
		return &Refusal{Reason: Later, Err: err}
	default:
		return &Refusal{Reason: Precondition, Err: err}
	}
}
