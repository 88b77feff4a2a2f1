package runtime

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/opencontainers/go-digest"

	"github.com/purserd/purser/runtime/registry"
)

// What comes of an image that is pulled is kept from containerd's garbage collection by
// a lease. When the pull fails the lease stays, and the next pull of the image takes
// over what it keeps.

const (
	// keptFor is how long what came of an image is kept, from when the pull began.
	keptFor = 24 * time.Hour
	// leasePrefix begins the names of the leases.
	leasePrefix = "purser-pull-"
	// labelPull, on a lease, says of what image it keeps parts.
	labelPull = "purser/pull"
)

// key tells the image from others. What is for several platforms is several images.
func (p *pulling) key() string {
	return digest.FromString(p.name + " " + p.options.Platform).Encoded()[:24]
}

// lease takes a lease, for keptFor from now, on what comes of the image and what
// earlier pulls have brought of it. earlier says whether there were any.
func (p *pulling) lease(ctx context.Context) (lease leases.Lease, earlier bool, err error) {
	manager := p.runtime.client.LeasesService()
	left, err := manager.List(ctx, `labels."`+labelPull+`"==`+p.key())
	if err != nil {
		return leases.Lease{}, false, err
	}
	lease, err = manager.Create(ctx, leases.WithID(leasePrefix+strings.ToLower(rand.Text())),
		leases.WithLabel(labelPull, p.key()), leases.WithExpiration(keptFor))
	if err != nil {
		return leases.Lease{}, false, err
	}
	for _, l := range left {
		if err := takeOver(ctx, manager, l, lease); err != nil {
			return leases.Lease{}, false, err
		}
	}
	return lease, len(left) > 0, nil
}

// takeOver has one lease keep what another kept, which goes.
func takeOver(ctx context.Context, manager leases.Manager, from, to leases.Lease) error {
	kept, err := manager.ListResources(ctx, from)
	if isNotFound(err) {
		return nil // it has just expired
	}
	if err != nil {
		return err
	}
	for _, resource := range kept {
		if err := manager.AddResource(ctx, to, resource); err != nil {
			return err
		}
	}
	if err := manager.Delete(ctx, from); err != nil && !isNotFound(err) {
		return err
	}
	return nil
}

// isVain says of a pull's error that what has come is not worth keeping: it fills the
// disk that is full, or is of no image for this node.
func isVain(err error) bool {
	var failed *PullError
	return errors.As(err, &failed) && (failed.Reason == registry.NoSpace || failed.Reason == registry.WrongImage)
}

func (r *Runtime) release(ctx context.Context, lease leases.Lease, how ...leases.DeleteOpt) error {
	err := r.client.LeasesService().Delete(context.WithoutCancel(ctx), lease, how...)
	if isNotFound(err) {
		return nil
	}
	return err
}

// DropPartial removes what pulls that failed have brought, and returns of how many
// images that was. What is being pulled stays.
func (r *Runtime) DropPartial(ctx context.Context) (dropped int, err error) {
	ctx = r.ctx(ctx)
	left, err := r.client.LeasesService().List(ctx, `labels."`+labelPull+`"`)
	if err != nil {
		return 0, r.wrap(err, "looking for what failed pulls have brought")
	}
	for _, lease := range left {
		unlock, ok := r.leased.tryLock(lease.Labels[labelPull])
		if !ok {
			continue
		}
		err := r.release(ctx, lease, leases.SynchronousDelete)
		unlock()
		if err != nil {
			return dropped, r.wrap(err, "removing what a failed pull has brought")
		}
		dropped++
	}
	return dropped, nil
}
