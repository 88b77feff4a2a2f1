package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ImportOptions say how imported images are named.
type ImportOptions struct {
	// Name is the reference to give; the archive must then hold one image.
	Name string
	// Stem names images without a reference of their own:
	// localhost/STEM:TAG. The archive's file name, usually.
	Stem string
}

// ImportImages reads an OCI layout or a docker archive as a tar stream, plain
// or compressed with gzip or zstd, and unpacks the images in it that are for
// this node's platform. On an error no image is added, and what came with the
// archive is given back to containerd's garbage collection.
func (r *Runtime) ImportImages(ctx context.Context, tar io.Reader, o ImportOptions) ([]Image, error) {
	ctx, release, err := r.client.WithLease(r.ctx(ctx))
	if err != nil {
		return nil, r.wrap(err, "importing images")
	}
	defer release(context.WithoutCancel(ctx))
	records, err := r.readArchive(ctx, tar, o)
	if err != nil {
		return nil, r.wrap(err, "importing images")
	}
	var all []Image
	for _, record := range records {
		img, err := r.unpackImported(ctx, record)
		if err != nil {
			return nil, r.wrapContent(err, "importing image %s", record.Name)
		}
		all = append(all, *img)
	}
	for _, record := range records {
		if err := r.nameImage(ctx, record); err != nil {
			return nil, r.wrap(err, "naming image %s", record.Name)
		}
	}
	return all, nil
}

// readArchive stores the archive's content and returns the images in it for
// this platform, by name.
func (r *Runtime) readArchive(ctx context.Context, tar io.Reader, o ImportOptions) ([]images.Image, error) {
	plain, err := compression.DecompressStream(tar)
	if err != nil {
		return nil, fmt.Errorf("decompressing the archive: %w", err)
	}
	defer plain.Close()
	index, err := archive.ImportIndex(ctx, r.client.ContentStore(), plain)
	if err != nil {
		return nil, badArchive(err)
	}
	manifests, err := r.manifests(ctx, index)
	if err != nil {
		return nil, badArchive(err)
	}
	return name(manifests, o)
}

// badArchive tells a fault of the archive from one of the node.
func badArchive(err error) error {
	switch {
	case errdefs.IsUnavailable(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errdefs.IsNotFound(err):
		// Not as "not found", which would mean the image to the caller.
		return fmt.Errorf("the archive is damaged or incomplete: %s", err)
	case errors.As(err, new(wrongPlatform)):
		return fmt.Errorf("%w; import one for that", err)
	}
	return fmt.Errorf("the archive is neither an OCI layout nor a docker archive, or it is damaged: %w", err)
}

// manifests returns the top-level manifests, or indexes, of this platform, and
// ties what belongs to each to it, so that it is kept as long.
func (r *Runtime) manifests(ctx context.Context, index imagespec.Descriptor) ([]imagespec.Descriptor, error) {
	cs := r.client.ContentStore()
	blob, err := content.ReadBlob(ctx, cs, index)
	if err != nil {
		return nil, err
	}
	parsed, err := parseIndex(blob)
	if err != nil {
		return nil, err
	}
	var found []imagespec.Descriptor
	var others []string
	for _, d := range parsed.Manifests {
		other, err := r.otherPlatform(ctx, d)
		if err != nil {
			return nil, err
		}
		if other != "" {
			others = append(others, other)
			continue
		}
		found = append(found, d)
	}
	switch {
	case len(found) > 0:
		return found, nil
	case len(others) > 0:
		slices.Sort(others)
		return nil, wrongPlatform{wanted: platforms.Format(platforms.DefaultSpec()), others: slices.Compact(others)}
	}
	return nil, errors.New("there is no image in it")
}

func parseIndex(blob []byte) (imagespec.Index, error) {
	var parsed imagespec.Index
	if err := json.Unmarshal(blob, &parsed); err != nil {
		return parsed, fmt.Errorf("reading its index: %w", err)
	}
	return parsed, nil
}

// otherPlatform returns the platform of a manifest that is not for this node.
// Of one that is, it ties down the content.
func (r *Runtime) otherPlatform(ctx context.Context, d imagespec.Descriptor) (string, error) {
	here := platforms.Default()
	if d.Platform != nil && !here.Match(*d.Platform) {
		return platforms.Format(*d.Platform), nil
	}
	cs := r.client.ContentStore()
	m, err := images.Manifest(ctx, cs, d, here)
	if errdefs.IsNotFound(err) && images.IsIndexType(d.MediaType) {
		return "other platforms", nil
	}
	if err != nil {
		return "", err
	}
	p, err := images.ConfigPlatform(ctx, cs, m.Config)
	if err != nil {
		return "", err
	}
	if p.Architecture != "" && !here.Match(p) {
		return platforms.Format(p), nil
	}
	handler := images.LimitManifests(images.FilterPlatforms(images.ChildrenHandler(cs), here), here, 1)
	if err := images.Walk(ctx, images.SetChildrenLabels(cs, handler), d); err != nil {
		return "", err
	}
	return "", r.complete(ctx, d)
}

// complete checks that all of an image's content is there.
func (r *Runtime) complete(ctx context.Context, d imagespec.Descriptor) error {
	_, _, _, missing, err := images.Check(ctx, r.client.ContentStore(), d, platforms.Default())
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%s of %d bytes: %w", missing[0].Digest, missing[0].Size, errdefs.ErrNotFound)
	}
	return err
}

// wrongPlatform is returned where there are images, but none for a platform.
type wrongPlatform struct {
	wanted string
	others []string
}

func (e wrongPlatform) Error() string {
	return fmt.Sprintf("its image is for %s; this node runs %s", strings.Join(e.others, ", "), e.wanted)
}

// name gives each manifest its reference.
func name(manifests []imagespec.Descriptor, o ImportOptions) ([]images.Image, error) {
	if o.Name != "" {
		return nameOne(manifests, o.Name)
	}
	var records []images.Image
	for _, d := range manifests {
		own := d.Annotations[images.AnnotationImageName]
		if own == "" {
			own = d.Annotations[imagespec.AnnotationRefName]
		}
		ref, err := importedRef(own, o.Stem)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(records, func(i images.Image) bool { return i.Name == ref }) {
			return nil, fmt.Errorf("the archive holds two images that would be named %s", ref)
		}
		records = append(records, images.Image{Name: ref, Target: d})
	}
	return records, nil
}

func nameOne(manifests []imagespec.Descriptor, name string) ([]images.Image, error) {
	for _, d := range manifests {
		if d.Digest != manifests[0].Digest {
			return nil, fmt.Errorf("the archive holds several images, so that they cannot all be named %s", name)
		}
	}
	ref, err := NormalizeRef(name)
	if err != nil {
		return nil, err
	}
	return []images.Image{{Name: ref, Target: manifests[0]}}, nil
}

// unpackImported unpacks an image before it has its name, so that a name never
// stands for one whose layers do not fit.
func (r *Runtime) unpackImported(ctx context.Context, record images.Image) (*Image, error) {
	name, err := r.snapshotter(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.unpackWith(ctx, record, name); err != nil {
		return nil, err
	}
	r.images.forget(cacheKey(record))
	img, err := r.readyImage(ctx, record)
	if err != nil {
		return nil, err
	}
	named := *img
	named.Ref = record.Name
	return &named, nil
}

// nameImage adds the record, or points an existing one to the new content.
func (r *Runtime) nameImage(ctx context.Context, record images.Image) error {
	_, err := r.client.ImageService().Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = r.client.ImageService().Update(ctx, record, "target")
	}
	return err
}
