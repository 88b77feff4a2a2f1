package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
)

const (
	// imagesEvery is how often it is looked whether images must go; also after each
	// image that comes or goes.
	imagesEvery = time.Minute
	// usesEvery is how often it is persisted when images were used last; also when
	// the agent ends. Hours count there, and a write costs something.
	usesEvery = 10 * time.Minute
)

// imageUse is when images were used last. Its zero value knows of none.
type imageUse struct {
	mu   sync.Mutex
	last map[string]time.Time
	// unknown is until when uses are not known: any image may have been used then.
	unknown time.Time
}

// touch notes that an image is used now.
func (u *imageUse) touch(ref string) { u.set(ref, time.Now()) }

func (u *imageUse) set(ref string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]time.Time{}
	}
	if at.After(u.last[ref]) {
		u.last[ref] = at
	}
}

// lastUse is when an image was used last: when it came, if that is all there is.
func (u *imageUse) lastUse(i runtime.Image) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.MaxFunc([]time.Time{i.Updated, u.last[i.Ref], u.unknown}, time.Time.Compare)
}

// forgotten notes that what was known of uses up to now is lost.
func (u *imageUse) forgotten() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.unknown = time.Now()
}

// keep forgets all but some images.
func (u *imageUse) keep(refs map[string]bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.last, func(ref string, _ time.Time) bool { return !refs[ref] })
}

// all is what is known.
func (u *imageUse) all() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.last)
}

// collect asks for a look at the images' disk.
func (a *Agent) collect() {
	select {
	case a.imagesDue <- struct{}{}:
	default:
	}
}

// keepImages looks after the images' disk until ctx ends.
func (a *Agent) keepImages(ctx context.Context) {
	a.loadImageUses()
	defer a.saveImageUses()
	tick, save := time.NewTicker(imagesEvery), time.NewTicker(usesEvery)
	defer tick.Stop()
	defer save.Stop()
	full := false
	for {
		full = a.tidyImages(ctx, full)
		select {
		case <-ctx.Done():
			return
		case <-save.C:
			a.saveImageUses()
		case <-tick.C:
		case <-a.imagesDue:
		}
	}
}

func (a *Agent) loadImageUses() {
	uses, err := a.db.ImageUses()
	if err != nil {
		a.log.Warn("when images were used last is not known: each counts as used now", "error", err)
		a.imageUse.forgotten()
	}
	for ref, at := range uses {
		a.imageUse.set(ref, at)
	}
}

func (a *Agent) saveImageUses() {
	err := a.db.Update(func(tx *state.Tx) error { return tx.PutImageUses(a.imageUse.all()) })
	if err != nil {
		a.log.Warn("when images were used last cannot be persisted", "error", err)
	}
}

// tidyImages measures the images, notes which are used, and removes those that are
// too old, and more if their disk is too full. It returns whether that has not helped,
// which is told once.
func (a *Agent) tidyImages(ctx context.Context, wasFull bool) (full bool) {
	images, err := a.runtime.ListImages(ctx)
	if err != nil {
		if !errors.Is(err, runtime.ErrUnavailable) && ctx.Err() == nil {
			a.log.Warn("cannot look after the images", "error", err)
		}
		return wasFull
	}
	a.noteImages(images)
	if err := a.removeOld(ctx, images); err != nil && ctx.Err() == nil {
		a.log.Warn("cannot remove images that nothing has used for long", "error", err)
	}
	disk, err := a.runtime.ImageDisk(ctx)
	if err != nil {
		a.log.Warn("cannot tell how full the images' disk is", "error", err)
		return wasFull
	}
	if disk.Used <= a.cfg.Images.GCHigh {
		return false
	}
	disk, err = a.makeRoom(ctx, images, disk)
	switch {
	case err != nil && ctx.Err() == nil:
		a.log.Warn("cannot remove images that nothing uses", "error", err)
	case disk.Used > a.cfg.Images.GCHigh && !wasFull:
		a.emit(warning, "ImageDiskFull", "", disk.Path, "%d%% of the images' disk is used, and no image can go: each is in use, was used in the last %s, or was imported",
			disk.Used, time.Duration(a.cfg.Images.GCMinAge))
	}
	return disk.Used > a.cfg.Images.GCHigh
}

// makeRoom removes what failed pulls have left and, while the disk is still too full,
// images: what is of use to nobody yet goes before what may be wanted again.
func (a *Agent) makeRoom(ctx context.Context, images []runtime.Image, disk runtime.Disk) (runtime.Disk, error) {
	dropped, err := a.runtime.DropPartial(ctx)
	if dropped > 0 {
		a.emit(normal, "PartialPullsRemoved", "", disk.Path, "%d%% of the images' disk was used: what failed pulls had brought of images is removed (%d of them)", disk.Used, dropped)
	}
	if err != nil {
		return disk, err
	}
	if dropped > 0 {
		now, err := a.runtime.ImageDisk(ctx)
		if err != nil {
			return disk, err
		}
		if disk = now; disk.Used <= a.cfg.Images.GCHigh {
			return disk, nil
		}
	}
	return a.removeUnused(ctx, images, disk)
}

// noteImages adds the images up, and notes which are in use.
func (a *Agent) noteImages(images []runtime.Image) {
	size := int64(0)
	here := map[string]bool{}
	counted := map[string]bool{}
	for _, i := range images {
		here[i.Ref] = true
		if !counted[i.Digest] {
			counted[i.Digest] = true
			size += i.Size
		}
		if len(a.imageUsers(i.Is)) > 0 {
			a.imageUse.touch(i.Ref)
		}
	}
	a.metrics.Images(size)
	a.imageUse.keep(here)
}

// unused are the images that may go and that nothing has used for some time, at least
// for gc_min_age: that used longest ago is the first.
func (a *Agent) unused(images []runtime.Image, now time.Time, age time.Duration) []runtime.Image {
	age = max(age, time.Duration(a.cfg.Images.GCMinAge))
	var found []runtime.Image
	for _, i := range images {
		if (i.Pulled || a.cfg.Images.GCImported) && now.Sub(a.imageUse.lastUse(i)) >= age {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(x, y runtime.Image) int {
		return a.imageUse.lastUse(x).Compare(a.imageUse.lastUse(y))
	})
	return found
}

// removeOld removes images that nothing has used for gc_max_age and no rollback would
// bring back.
func (a *Agent) removeOld(ctx context.Context, images []runtime.Image) (err error) {
	age, now := time.Duration(a.cfg.Images.GCMaxAge), time.Now()
	if age == 0 {
		return nil
	}
	gone := false
	defer func() {
		if gone {
			err = errors.Join(err, a.runtime.CollectGarbage(ctx))
		}
	}()
	for _, i := range a.unused(images, now, age) {
		went, err := a.removeIdle(ctx, i, removal{chosen: now, reason: metrics.ByAge, keep: a.inHistory, why: fmt.Sprintf("gc_max_age is %s", age)})
		if err != nil {
			return err
		}
		gone = gone || went
	}
	return nil
}

// inHistory says whether a revision that an app can be rolled back to names an image.
func (a *Agent) inHistory(same func(ref string) bool) (bool, error) {
	apps, err := a.db.Apps()
	if err != nil {
		return false, err
	}
	for _, app := range apps {
		for _, r := range app.GetRevisions() {
			for _, f := range r.GetFunctions() {
				if same(f.GetSpec().GetImage().GetRef()) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// removeUnused removes images, the longest unused first, until the disk is as empty
// as it should be.
func (a *Agent) removeUnused(ctx context.Context, images []runtime.Image, disk runtime.Disk) (runtime.Disk, error) {
	began := time.Now()
	for _, i := range a.unused(images, began, 0) {
		if disk.Used <= a.cfg.Images.GCLow {
			return disk, nil
		}
		went, err := a.removeIdle(ctx, i, removal{chosen: began, reason: metrics.ByGC, why: fmt.Sprintf("%d%% of the images' disk was used", disk.Used)})
		if err != nil {
			return disk, err
		}
		if !went {
			continue
		}
		if err := a.runtime.CollectGarbage(ctx); err != nil {
			return disk, err
		}
		// What was measured last holds until it is known better.
		now, err := a.runtime.ImageDisk(ctx)
		if err != nil {
			return disk, err
		}
		disk = now
	}
	return disk, nil
}

// removal is why an unused image is to go.
type removal struct {
	// chosen is when: what has been used since stays.
	chosen time.Time
	// reason is the metric's, why what the event says.
	reason, why string
	// keep says of an image that it stays. May be nil.
	keep func(same func(ref string) bool) (bool, error)
}

// errInUse ends the removal of an image that has come into use.
var errInUse = errors.New("in use")

// removeIdle removes an image unless it is in use, is being pulled, or has been used
// since it was chosen.
func (a *Agent) removeIdle(ctx context.Context, i runtime.Image, r removal) (went bool, err error) {
	since := a.imageUse.lastUse(i)
	// Before the lock is taken: containers made from then on are of workloads.
	contained, err := a.runtime.ContainerImages(ctx)
	if err != nil {
		return false, err
	}
	removed, err := a.dropImage(ctx, i.Ref, func(same func(string) bool) error {
		if slices.ContainsFunc(contained, same) || len(a.imageUsers(same)) > 0 || a.pulls.has(same) || a.imageUse.lastUse(i).After(r.chosen) {
			return errInUse
		}
		return r.keeps(same)
	})
	switch {
	case errors.Is(err, errInUse), errors.Is(err, runtime.ErrImageNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("removing image %s: %w", i.Ref, err)
	}
	a.metrics.Removed(r.reason)
	a.emit(normal, "ImageRemoved", "", removed, "%s, and nothing has used it for %s", r.why, time.Since(since).Round(time.Second))
	return true, nil
}

// keeps returns errInUse for an image that stays.
func (r removal) keeps(same func(ref string) bool) error {
	if r.keep == nil {
		return nil
	}
	kept, err := r.keep(same)
	if kept {
		return errInUse
	}
	return err
}
