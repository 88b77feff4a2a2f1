package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/runtime/registry"
)

// PullOptions say how an image is pulled.
type PullOptions struct {
	// Platform is os/architecture[/variant]; the node's own when empty.
	Platform string
	// Login is the registry's credentials; docker's configuration when nil.
	Login *registry.Login
	// Progress, if not nil, is told of each layer that has come further. It may be
	// called by several goroutines at once and must not block.
	Progress func(Layer)
}

// Layer is how far a layer of an image has come.
type Layer struct {
	Digest string
	// Offset and Total are bytes of the compressed layer.
	Offset, Total int64
	// Resumed is what of Offset an earlier pull had brought.
	Resumed int64
	State   LayerState
}

// LayerState is what happens to a layer.
type LayerState string

// The states of a layer, in order.
const (
	LayerWaiting     LayerState = "waiting"
	LayerDownloading LayerState = "downloading"
	LayerDownloaded  LayerState = "downloaded"
	LayerUnpacking   LayerState = "unpacking"
	LayerDone        LayerState = "done"
)

// PullError says why an image cannot be had.
type PullError struct {
	// Reason is one of registry.Reasons.
	Reason string
	// Text begins with the reason.
	Text string
	Err  error
}

func (e *PullError) Error() string { return e.Text }
func (e *PullError) Unwrap() error { return e.Err }

const (
	// connections bounds the layers that come at the same time, of all pulls.
	connections = 8
	// labelPulled, on an image, says that it came from a registry and can again, and
	// labelPlatform for which platform it was chosen, if not for the node's.
	labelPulled   = "purser/pulled"
	labelPlatform = "purser/platform"
)

// Pull brings an image to this node, unpacked and under its name. What has come when
// it fails, or ctx ends, is kept for a day from when it began: the next pull goes on
// from there. The error is a *PullError, unless containerd is to blame.
func (r *Runtime) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	name, err := NormalizeRef(ref)
	if err != nil {
		return nil, err
	}
	snapshotter, err := r.snapshotter(r.ctx(ctx))
	if err != nil {
		return nil, r.wrap(err, "pulling image %s", name)
	}
	p := &pulling{runtime: r, name: name, options: o, platform: platforms.Default(), snapshotter: snapshotter}
	if o.Platform != "" {
		wanted, err := platforms.Parse(o.Platform)
		if err != nil {
			return nil, fmt.Errorf("platform %q: %w", o.Platform, err)
		}
		p.platform = platforms.Only(wanted)
	}
	if err := p.pull(ctx); err != nil {
		return nil, err
	}
	return r.Image(ctx, name)
}

// pulling is one pull.
type pulling struct {
	runtime     *Runtime
	name        string
	options     PullOptions
	platform    platforms.MatchComparer
	snapshotter string
	received    atomic.Int64
}

func (p *pulling) pull(ctx context.Context) error {
	// Another pull of the image, with other credentials, shares what is kept.
	unlock, err := p.runtime.leased.lock(ctx, p.key())
	if err != nil {
		return err
	}
	defer unlock()
	ctx = registry.Silent(p.runtime.ctx(ctx))
	lease, earlier, err := p.lease(ctx)
	if err != nil {
		return p.runtime.wrap(err, "pulling image %s", p.name)
	}
	failpoint.Here("pull.leased")
	err = p.explain(ctx, p.fetch(leases.WithLease(ctx, lease.ID)))
	failpoint.Here("pull.fetched")
	switch {
	case err == nil, !earlier && p.received.Load() == 0:
		_ = p.runtime.release(ctx, lease)
	case isVain(err):
		// At once: the next that wants an image needs the room.
		_ = p.runtime.release(ctx, lease, leases.SynchronousDelete)
	}
	failpoint.Here("pull.released")
	return err
}

// fetch has containerd bring and unpack the image.
func (p *pulling) fetch(ctx context.Context) error {
	resolver, done := p.runtime.cfg.Registry.Resolver(ctx, registry.Registry(p.name), p.options.Login, p.runtime.connections)
	defer done()
	image, err := p.runtime.client.Pull(ctx, p.name, p.how(counting{resolver, p})...)
	if err == nil {
		p.runtime.images.forget(cacheKey(image.Metadata()))
	}
	return err
}

// how makes the options of the pull.
func (p *pulling) how(resolver remotes.Resolver) []client.RemoteOpt {
	unpack := []client.UnpackOpt{client.WithUnpackApplyOpts(p.unpacks)}
	wrap := p.watched
	if isLocal(p.snapshotter) {
		// So that the image can be unpacked again elsewhere.
		unpack = append(unpack, client.WithUnpackFetchAllContent())
	} else {
		// Remote snapshotters get the layers themselves, and have to know of what.
		info := snapshotters.AppendInfoHandlerWrapper(p.name)
		wrap = func(h images.Handler) images.Handler { return info(p.watched(h)) }
	}
	options := []client.RemoteOpt{
		client.WithResolver(resolver),
		client.WithPlatformMatcher(p.platform),
		client.WithPullUnpack,
		client.WithPullSnapshotter(p.snapshotter),
		client.WithUnpackOpts(unpack),
		client.WithImageHandlerWrapper(wrap),
		client.WithPullLabel(labelPulled, "true"),
	}
	if p.options.Platform != "" {
		options = append(options, client.WithPullLabel(labelPlatform, p.options.Platform))
	}
	return options
}

// isLocal tells containerd's own snapshotters, which unpack what they are given,
// from those that fetch it themselves.
func isLocal(snapshotter string) bool {
	return slices.Contains([]string{"overlayfs", "native", "btrfs", "zfs", "devmapper", "blockfile", "erofs", "aufs"}, snapshotter)
}

// explain makes the error of a pull one that begins with its reason.
func (p *pulling) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := native(err); errdefs.IsUnavailable(err) {
		return p.runtime.wrap(err, "pulling image %s", p.name)
	}
	var wrong wrongPlatform
	if errors.As(err, &wrong) {
		reason := registry.WrongImage + " " + wrong.wanted
		return &PullError{Reason: registry.WrongImage, Err: err, Text: fmt.Sprintf("%s: %s is for %s", reason, p.name, cmp.Or(strings.Join(wrong.others, ", "), "no platform that it names"))}
	}
	reason, text := registry.Explain(err, registry.Registry(p.name), p.options.Login)
	return &PullError{Reason: reason, Err: err, Text: fmt.Sprintf("%s: image %s: %s", reason, p.name, text)}
}

// watched follows what the handlers of a pull do to each part of the image.
func (p *pulling) watched(h images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, d imagespec.Descriptor) ([]imagespec.Descriptor, error) {
		children, err := h.Handle(ctx, d)
		if err != nil {
			return children, p.unmatched(ctx, d, err)
		}
		switch {
		case images.IsManifestType(d.MediaType):
			for _, c := range children {
				if images.IsLayerType(c.MediaType) {
					p.tell(c, Layer{State: LayerWaiting})
				}
			}
		case images.IsConfigType(d.MediaType):
			return children, p.fits(ctx, d)
		case images.IsLayerType(d.MediaType):
			p.tell(d, Layer{State: LayerDownloaded, Offset: d.Size})
		}
		return children, nil
	})
}

// unmatched says of an index without an image for the platform what it has.
func (p *pulling) unmatched(ctx context.Context, d imagespec.Descriptor, err error) error {
	if !images.IsIndexType(d.MediaType) || !errdefs.IsNotFound(err) {
		return err
	}
	blob, readErr := content.ReadBlob(ctx, p.runtime.client.ContentStore(), d)
	if readErr != nil {
		return err
	}
	index, readErr := parseIndex(blob)
	if readErr != nil {
		return err
	}
	wrong := wrongPlatform{wanted: p.wanted()}
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" { // attestations
			wrong.others = append(wrong.others, platforms.Format(*m.Platform))
		}
	}
	slices.Sort(wrong.others)
	wrong.others = slices.Compact(wrong.others)
	return wrong
}

// fits checks that an image which is no choice of several is for the platform.
func (p *pulling) fits(ctx context.Context, config imagespec.Descriptor) error {
	got, err := images.ConfigPlatform(ctx, p.runtime.client.ContentStore(), config)
	if err != nil {
		return err
	}
	if got.Architecture == "" || p.platform.Match(got) {
		return nil
	}
	return wrongPlatform{wanted: p.wanted(), others: []string{platforms.Format(got)}}
}

// wanted is the platform in words.
func (p *pulling) wanted() string {
	if p.options.Platform != "" {
		return p.options.Platform
	}
	return platforms.Format(platforms.DefaultSpec())
}

// unpacks is called when a layer begins to be unpacked.
func (p *pulling) unpacks(_ context.Context, d imagespec.Descriptor, _ *diff.ApplyConfig) error {
	p.tell(d, Layer{State: LayerUnpacking, Offset: d.Size})
	return nil
}

func (p *pulling) tell(d imagespec.Descriptor, l Layer) {
	if p.options.Progress != nil {
		l.Digest, l.Total = d.Digest.String(), d.Size
		p.options.Progress(l)
	}
}

// counting is a resolver that counts what comes, and tells the registry's errors from
// containerd's.
type counting struct {
	remotes.Resolver
	pulling *pulling
}

func (c counting) Resolve(ctx context.Context, ref string) (string, imagespec.Descriptor, error) {
	name, descriptor, err := c.Resolver.Resolve(ctx, ref)
	return name, descriptor, registry.Said(err)
}

func (c counting) Fetcher(ctx context.Context, ref string) (remotes.Fetcher, error) {
	fetcher, err := c.Resolver.Fetcher(ctx, ref)
	if err != nil {
		return nil, err
	}
	return remotes.FetcherFunc(func(ctx context.Context, d imagespec.Descriptor) (io.ReadCloser, error) {
		content, err := fetcher.Fetch(ctx, d)
		if err != nil {
			return nil, registry.Said(err)
		}
		return &counted{ReadCloser: content, pulling: c.pulling, descriptor: d}, nil
	}), nil
}

// counted is content on its way.
type counted struct {
	io.ReadCloser
	pulling    *pulling
	descriptor imagespec.Descriptor
	// resumed is what was there before, offset what is now.
	resumed, offset int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.offset += int64(n)
	c.pulling.received.Add(int64(n))
	if images.IsLayerType(c.descriptor.MediaType) && n > 0 {
		c.pulling.tell(c.descriptor, Layer{State: LayerDownloading, Offset: c.offset, Resumed: c.resumed})
	}
	return n, registry.Said(err)
}

// Seek is how content is gone on with that has come in part.
func (c *counted) Seek(offset int64, whence int) (int64, error) {
	seeker, ok := c.ReadCloser.(io.Seeker)
	if !ok {
		return 0, errors.New("the registry's content cannot be gone on with")
	}
	at, err := seeker.Seek(offset, whence)
	if c.offset == 0 {
		c.resumed = at // later ones follow a connection that broke in this pull
	}
	c.offset = at
	return at, err
}
