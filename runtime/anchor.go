package runtime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/containers"
	sandboxes "github.com/containerd/containerd/v2/core/sandbox"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/purserd/purser/runtime/ocispec"
)

// The anchor of a shared shim is a container that is created and never started. It is
// there before the first container that the shim serves, and goes after the last one;
// the shim ends with it. It has the ID of a record in containerd's store of sandboxes,
// which a container that names it is started in without a shim of its own.
//
// What there is stands in containerd alone: anchors have labelAnchor, and the containers
// that a shim serves name its anchor in labelShim. So the next agent finds both. An
// anchor whose shim has died is not used again; the next one has another ID, so that
// nothing is mixed up with what is being cleaned up.

// labelAnchor marks the anchors among this node's containers, and says whose they are.
const labelAnchor = "purser.anchor"

// anchors are those that this process knows.
type anchors struct {
	groups locks // by group's name

	mu sync.Mutex
	// current is the anchor of a group, by the group's name.
	current map[string]string
	// held counts the containers that are being made, by anchor: those that may have
	// no record yet.
	held map[string]int
	// serving has the anchors of containers, which never change, by container: of those that
	// were heard of, and may be gone.
	serving map[string]string
}

// note keeps in mind whose shim serves a container; with no anchor nobody else's does.
func (a *anchors) note(id, anchor string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if anchor == "" {
		delete(a.serving, id)
		return
	}
	if a.serving == nil {
		a.serving = map[string]string{}
	}
	a.serving[id] = anchor
}

// of is the anchor of a container, as far as is known.
func (a *anchors) of(id string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.serving[id]
}

// user is a container that an anchor's shim may serve, other than except; empty when none
// is known.
func (a *anchors) user(anchor, except string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, its := range a.serving {
		if its == anchor && id != except {
			return id
		}
	}
	return ""
}

func (a *anchors) get(group string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current[group]
}

func (a *anchors) set(group, anchor string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if anchor == "" {
		delete(a.current, group)
		return
	}
	if a.current == nil {
		a.current = map[string]string{}
	}
	a.current[group] = anchor
}

// hold changes how many containers are being made, and returns how many there are now.
func (a *anchors) hold(anchor string, by int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held == nil {
		a.held = map[string]int{}
	}
	if a.held[anchor] += by; a.held[anchor] == 0 {
		delete(a.held, anchor)
		return 0
	}
	return a.held[anchor]
}

// holdAnchor returns an anchor whose shim serves. It is there at least until the
// matching letGoOfAnchor.
func (r *Runtime) holdAnchor(ctx context.Context, g group) (string, error) {
	name := g.name(r.cfg.Node)
	unlock, err := r.anchors.groups.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	id, err := r.findAnchor(ctx, name)
	if err != nil {
		return "", fmt.Errorf("looking for the shim of %s: %w", g, err)
	}
	if id == "" {
		if id, err = r.makeAnchor(ctx, g); err != nil {
			return "", fmt.Errorf("starting the shim of %s: %w", g, err)
		}
	}
	r.anchors.set(name, id)
	r.anchors.hold(id, 1)
	return id, nil
}

// letGoOfAnchor removes the anchor if the container that it was held for could not be
// made and there is no other.
func (r *Runtime) letGoOfAnchor(ctx context.Context, id string, made bool) error {
	if r.anchors.hold(id, -1); made {
		return nil
	}
	unlock, err := r.anchors.groups.lock(ctx, groupName(id))
	if err != nil {
		return err
	}
	defer unlock()
	_, err = r.removeUnused(ctx, id, "")
	return err
}

// findAnchor returns the group's anchor whose shim serves, and removes others that
// nothing uses; empty when there is none.
func (r *Runtime) findAnchor(ctx context.Context, group string) (string, error) {
	if id := r.anchors.get(group); id != "" {
		if serves, err := r.serves(ctx, id); serves || err != nil {
			return id, err
		}
		r.log.Warn("a shared shim has died, and with it what it served", "anchor", id)
		r.anchors.set(group, "")
	}
	all, err := r.listAnchors(ctx)
	if err != nil {
		return "", err
	}
	for _, id := range all {
		if groupName(id) != group {
			continue
		}
		if serves, err := r.serves(ctx, id); serves || err != nil {
			return id, err
		}
		if _, err := r.removeUnused(ctx, id, ""); err != nil {
			return "", err
		}
	}
	return "", nil
}

// serves tells whether an anchor's shim is there.
func (r *Runtime) serves(ctx context.Context, id string) (bool, error) {
	_, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func (r *Runtime) listAnchors(ctx context.Context) ([]string, error) {
	records, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q==%q,labels.%q", labelNode, r.cfg.Node, labelAnchor))
	var all []string
	for _, c := range records {
		all = append(all, c.ID)
	}
	return all, err
}

// makeAnchor makes an anchor, whole or not at all.
func (r *Runtime) makeAnchor(ctx context.Context, g group) (string, error) {
	record, err := r.anchorRecord(g)
	if err != nil {
		return "", err
	}
	err = step(ctx, func(ctx context.Context) error { return r.createAnchor(ctx, record) })
	if err == nil {
		return record.ID, nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	return "", errors.Join(err, r.removeAnchor(undo, record.ID))
}

func (r *Runtime) anchorRecord(g group) (record containers.Container, err error) {
	_, options, err := r.runtimeOptions(g.runtime, false)
	if err != nil {
		return record, err
	}
	host, err := r.host()
	if err != nil {
		return record, err
	}
	id := g.name(r.cfg.Node) + "-" + strings.ToLower(rand.Text()[:8])
	spec := ocispec.Anchor(r.cfg.CgroupParent+"/"+id, r.cfg.Wrapper, host)
	spec.Annotations = map[string]string{groupAnnotation: id}
	specAny, err := typeurl.MarshalAny(spec)
	if err != nil {
		return record, fmt.Errorf("encoding its OCI spec: %w", err)
	}
	return containers.Container{
		ID:      id,
		Runtime: containers.RuntimeInfo{Name: shimName, Options: options},
		Spec:    specAny,
		Labels:  map[string]string{labelNode: r.cfg.Node, labelAnchor: g.String()},
	}, nil
}

func (r *Runtime) createAnchor(ctx context.Context, record containers.Container) error {
	if _, err := r.client.ContainerService().Create(ctx, record); err != nil {
		return err
	}
	_, err := r.client.SandboxStore().Create(ctx, sandboxes.Sandbox{
		ID: record.ID, Labels: record.Labels,
		Runtime: sandboxes.RuntimeOpts{Name: record.Runtime.Name},
	})
	// Before 1.7 there are none, and the group's annotation has to do.
	if err != nil && !errdefs.IsNotImplemented(native(err)) {
		return err
	}
	_, err = r.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: record.ID,
		// It takes what the runtime makes to mount on.
		Rootfs: []*types.Mount{{Type: "tmpfs", Source: "tmpfs", Options: []string{"size=64k", "mode=755"}}},
	})
	return err
}

// removeUnused removes an anchor, with its shim, unless it serves a container other than
// except. The group's lock is held.
func (r *Runtime) removeUnused(ctx context.Context, id, except string) (removed bool, err error) {
	if used, err := r.used(ctx, id, except); used || err != nil {
		return false, err
	}
	if r.anchors.get(groupName(id)) == id {
		r.anchors.set(groupName(id), "")
	}
	return true, r.removeAnchor(ctx, id)
}

// used says whether an anchor serves a container other than except, or is about to. One
// that is known to be served, and still there, says enough: to list them all for each that
// goes takes a second where there are hundreds. That there is none only the list can say.
func (r *Runtime) used(ctx context.Context, id, except string) (bool, error) {
	if r.anchors.hold(id, 0) > 0 {
		return true, nil
	}
	for user := r.anchors.user(id, except); user != ""; user = r.anchors.user(id, except) {
		_, err := r.client.ContainerService().Get(ctx, user)
		if err == nil {
			return true, nil
		}
		if !isNotFound(err) {
			return false, fmt.Errorf("looking for what shim %s serves: %w", id, err)
		}
		r.anchors.note(user, "")
	}
	users, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q==%q", labelShim, id))
	if err != nil {
		return false, fmt.Errorf("looking for what shim %s serves: %w", id, err)
	}
	for _, c := range users {
		r.anchors.note(c.ID, id)
	}
	return slices.ContainsFunc(users, func(c containers.Container) bool { return c.ID != except }), nil
}

func (r *Runtime) removeAnchor(ctx context.Context, id string) error {
	if err := r.deleteTask(ctx, id); err != nil {
		return fmt.Errorf("ending shim %s: %w", id, err)
	}
	err := r.client.SandboxStore().Delete(ctx, id)
	if err != nil && !isNotFound(err) && !errdefs.IsNotImplemented(native(err)) {
		return fmt.Errorf("removing the sandbox of shim %s: %w", id, err)
	}
	// Last: as long as it is there, what is left can be found.
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !isNotFound(err) {
		return fmt.Errorf("removing the record of shim %s: %w", id, err)
	}
	return nil
}

// removeRecord removes the record of a container, and before that its shim's anchor if
// it was the last to use it.
func (r *Runtime) removeRecord(ctx context.Context, record containers.Container) error {
	if anchor := record.Labels[labelShim]; anchor != "" {
		// Of two that go at the same time, one has to see that it is the last.
		unlock, err := r.anchors.groups.lock(ctx, groupName(anchor))
		if err != nil {
			return err
		}
		defer unlock()
		if _, err := r.removeUnused(ctx, anchor, record.ID); err != nil {
			return err
		}
	}
	if err := r.client.ContainerService().Delete(ctx, record.ID); err != nil && !isNotFound(err) {
		return fmt.Errorf("removing its record: %w", err)
	}
	r.anchors.note(record.ID, "")
	return nil
}

// leftAnchors lists those that serve nothing, as an agent leaves them that dies between
// two steps.
func (r *Runtime) leftAnchors(ctx context.Context) ([]thing, error) {
	ids, err := r.listAnchors(ctx)
	if err != nil {
		return nil, err
	}
	var all []thing
	for _, id := range ids {
		used, err := r.used(ctx, id, "")
		if err != nil {
			return nil, err
		}
		if !used {
			all = append(all, thing{kind: LeakShim, name: id, remove: func(ctx context.Context) error { return r.removeLeft(ctx, id) }})
		}
	}
	return all, nil
}

// removeLeft removes an anchor that serves nothing still; it is errNotLeft otherwise.
func (r *Runtime) removeLeft(ctx context.Context, id string) error {
	unlock, err := r.anchors.groups.lock(ctx, groupName(id))
	if err != nil {
		return err
	}
	defer unlock()
	removed, err := r.removeUnused(ctx, id, "")
	if err == nil && !removed {
		return errNotLeft
	}
	return err
}
