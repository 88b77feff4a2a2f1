package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/ocispec"
)

// Image is an image that this node has.
type Image struct {
	// Ref is its name in full.
	Ref string
	// Digest is that of the manifest or index that the name stands for.
	Digest string
	// Size in bytes of the compressed layers and the metadata that are here.
	Size int64
	// Pulled: it came from a registry, and can be had from there again.
	Pulled bool
	// Updated is when its name was last given to this content.
	Updated time.Time
	// Config says how the image wants to be run. Its Env always has a PATH.
	Config imagespec.ImageConfig

	chain    string    // snapshot of all its layers
	places   *sync.Map // what is at its paths, as far as anybody asked
	accounts ocispec.Accounts
	// lower are the options of a mount on top of the layers; nil when each
	// container has a snapshot of its own.
	lower []string
}

// UID is the user ID that a container made from the image and a spec has on this
// node.
func (i *Image) UID(spec *purserv1.LaunchSpec) (uint32, error) {
	u, err := ocispec.User(spec, i.Config, i.accounts)
	return u.UID, err
}

// defaultPath is the PATH of an image that sets none; without one the OCI
// runtime would find no command.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Image returns the image of that name, ready to run on this node: unpacked if
// it was not. ErrImageNotFound is wrapped when the node does not have it.
func (r *Runtime) Image(ctx context.Context, ref string) (*Image, error) {
	name, err := NormalizeRef(ref)
	if err != nil {
		return nil, err
	}
	record, err := r.imageRecord(r.ctx(ctx), name)
	if err != nil {
		return nil, r.wrapImage(err, "looking for image %s", name)
	}
	img, err := r.readyImage(r.ctx(ctx), record)
	if err != nil {
		return nil, r.wrapContent(err, "preparing image %s", name)
	}
	named := *img
	named.Ref = name
	return &named, nil
}

// imageRecord finds a name or, for a name with a digest, an image of the same
// repository that has it under another name.
func (r *Runtime) imageRecord(ctx context.Context, name string) (images.Image, error) {
	record, err := r.client.ImageService().Get(ctx, name)
	digest := digestOf(name)
	if err == nil || !errdefs.IsNotFound(err) || digest == "" {
		return record, err
	}
	same, listErr := r.client.ImageService().List(ctx, "target.digest=="+digest)
	if listErr != nil {
		return images.Image{}, listErr
	}
	for _, s := range same {
		if repository(s.Name) == repository(name) {
			return s, nil
		}
	}
	return images.Image{}, err
}

// readyImage returns what is known of an image's content, finding it out once.
func (r *Runtime) readyImage(ctx context.Context, record images.Image) (*Image, error) {
	return r.images.get(cacheKey(record), func() (*Image, error) {
		img, err := r.describe(ctx, record)
		if err != nil {
			return nil, err
		}
		if err := r.unpack(ctx, record, img.chain); err != nil {
			return nil, err
		}
		return img, r.openLayers(ctx, client.NewImageWithPlatform(r.client, record, platformOf(record)), img)
	})
}

// platformOf is the platform that an image was chosen for.
func platformOf(record images.Image) platforms.MatchComparer {
	if chosen, err := platforms.Parse(record.Labels[labelPlatform]); err == nil {
		return platforms.Only(chosen)
	}
	return platforms.Default()
}

// cacheKey is what an image's content is known by: an index may be of images for
// several platforms.
func cacheKey(record images.Image) string {
	return record.Target.Digest.String() + " " + record.Labels[labelPlatform]
}

// describe reads what the image's metadata says.
func (r *Runtime) describe(ctx context.Context, record images.Image) (*Image, error) {
	i := client.NewImageWithPlatform(r.client, record, platformOf(record))
	spec, err := i.Spec(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading its configuration: %w", err)
	}
	size, err := i.Size(ctx)
	if err != nil {
		return nil, fmt.Errorf("adding up its size: %w", err)
	}
	config := spec.Config
	if !slices.ContainsFunc(config.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }) {
		config.Env = append([]string{defaultPath}, config.Env...)
	}
	return &Image{
		Ref:    record.Name,
		Digest: record.Target.Digest.String(),
		Size:   size,
		Config: config,
		places: new(sync.Map),
		chain:  identity.ChainID(spec.RootFS.DiffIDs).String(),
	}, nil
}

// unpack makes sure that the image's layers are in the snapshotter: another
// one may have been used when it was imported.
func (r *Runtime) unpack(ctx context.Context, record images.Image, chain string) error {
	name, err := r.snapshotter(ctx)
	if err != nil {
		return err
	}
	_, err = r.client.SnapshotService(name).Stat(ctx, chain)
	if err == nil || !errdefs.IsNotFound(err) {
		return err
	}
	return r.unpackWith(ctx, record, name)
}

func (r *Runtime) unpackWith(ctx context.Context, record images.Image, snapshotter string) error {
	i := client.NewImageWithPlatform(r.client, record, platformOf(record))
	if err := i.Unpack(ctx, snapshotter); err != nil {
		return fmt.Errorf("unpacking it: %w", err)
	}
	return nil
}

// ListImages returns the images of the node, sorted by name. One whose content
// is damaged is listed without a size and a configuration.
func (r *Runtime) ListImages(ctx context.Context) ([]Image, error) {
	ctx = r.ctx(ctx)
	records, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, r.wrap(err, "listing images")
	}
	all := make([]Image, 0, len(records))
	for _, record := range records {
		img, err := r.describe(ctx, record)
		if err != nil {
			r.log.Warn("an image is damaged", "image", record.Name, "error", err)
			img = &Image{Digest: record.Target.Digest.String()}
		}
		img.Ref = record.Name
		img.Updated = record.UpdatedAt
		_, img.Pulled = record.Labels[labelPulled]
		all = append(all, *img)
	}
	slices.SortFunc(all, func(a, b Image) int { return strings.Compare(a.Ref, b.Ref) })
	return all, nil
}

// RemoveImage forgets the name that a reference stands for, and returns it; content
// that nothing else needs goes with the next [Runtime.CollectGarbage]. Containers made from it keep
// running. inUse is asked first, with a function that tells whether a reference
// stands for that name, too; its error ends the removal. ErrImageNotFound is
// wrapped.
func (r *Runtime) RemoveImage(ctx context.Context, ref string, inUse func(same func(ref string) bool) error) (string, error) {
	name, err := NormalizeRef(ref)
	if err != nil {
		return "", err
	}
	ctx = r.ctx(ctx)
	record, err := r.imageRecord(ctx, name)
	if err != nil {
		return "", r.wrapImage(err, "removing image %s", name)
	}
	if err := inUse(func(ref string) bool { return leadsTo(ref, record.Name, record.Target.Digest.String()) }); err != nil {
		return "", err
	}
	r.images.forget(cacheKey(record))
	err = r.client.ImageService().Delete(ctx, record.Name)
	return record.Name, r.wrapImage(err, "removing image %s", name)
}

// CollectGarbage has containerd remove what nothing needs any more, and waits for
// that: the end of a lease makes it do so.
func (r *Runtime) CollectGarbage(ctx context.Context) error {
	ctx = r.ctx(ctx)
	lease, err := r.client.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err == nil {
		err = r.client.LeasesService().Delete(ctx, lease, leases.SynchronousDelete)
	}
	return r.wrap(err, "removing what no image needs any more")
}

// Is says whether a reference may lead to the image.
func (i *Image) Is(ref string) bool { return leadsTo(ref, i.Ref, i.Digest) }

// leadsTo says whether a reference may lead to an image of a name and digest.
func leadsTo(ref, image, digest string) bool {
	name, err := NormalizeRef(ref)
	if err != nil {
		return false
	}
	return name == image || digestOf(name) == digest && repository(name) == repository(image)
}

// wrapImage is wrap for calls where what was not found is an image.
func (r *Runtime) wrapImage(err error, doing string, args ...any) error {
	if err != nil && isNotFound(err) {
		return fmt.Errorf("%s: %w", fmt.Sprintf(doing, args...), ErrImageNotFound)
	}
	return r.wrap(err, doing, args...)
}

// wrapContent is wrap for an image that is there, but whose content may not be.
func (r *Runtime) wrapContent(err error, doing string, args ...any) error {
	if err != nil && isNotFound(err) {
		return fmt.Errorf("%s: its content is damaged: %s", fmt.Sprintf(doing, args...), native(err))
	}
	return r.wrap(err, doing, args...)
}
