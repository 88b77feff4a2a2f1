package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// ImportImages brings the images of an archive onto the node.
func (a *Agent) ImportImages(ctx context.Context, archive io.Reader, name, stem string) ([]*purserv1.NodeImage, error) {
	images, err := a.runtime.ImportImages(ctx, archive, runtime.ImportOptions{Name: name, Stem: stem})
	if err != nil {
		return nil, runtimeError(err)
	}
	for _, i := range images {
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
	// No launch may take the image into use meanwhile.
	a.writing.Lock()
	defer a.writing.Unlock()
	removed, err := a.runtime.RemoveImage(ctx, ref, func(same func(string) bool) error {
		if users := a.imageUsers(same); len(users) > 0 {
			return refuse(Precondition, "image %s is in use by %s; remove them first", ref, strings.Join(users, ", "))
		}
		return nil
	})
	if err != nil {
		return runtimeError(err)
	}
	a.emit(normal, "ImageRemoved", "", removed, "removed")
	return nil
}

// imageUsers are the workloads whose spec names an image.
func (a *Agent) imageUsers(same func(ref string) bool) []string {
	var users []string
	for _, w := range a.all("", "") {
		if r := w.record(); same(r.GetSpec().GetImage().GetRef()) {
			users = append(users, fmt.Sprintf("%s (%s)", r.GetId(), r.GetEnvironment()))
		}
	}
	return users
}

func imageMessages(images []runtime.Image) []*purserv1.NodeImage {
	var all []*purserv1.NodeImage
	for _, i := range images {
		all = append(all, &purserv1.NodeImage{Ref: i.Ref, Digest: i.Digest, Size: uint64(i.Size)})
	}
	return all
}

// runtimeError gives package runtime's errors their codes.
func runtimeError(err error) error {
	switch {
	case errors.Is(err, runtime.ErrUnavailable):
		return &Refusal{Reason: Later, Err: err}
	case errors.Is(err, runtime.ErrImageNotFound), errors.Is(err, runtime.ErrNotFound):
		return &Refusal{Reason: NotFound, Err: err}
	}
	return err
}
