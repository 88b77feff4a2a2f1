package runtime

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Disk is how full the disk is that the images are on.
type Disk struct {
	// Path is a directory of containerd's on it.
	Path string
	// Used is in percent of what can be used, rounded up.
	Used int
}

// ImageDisk finds out how full the images' disk is, where the snapshotter keeps
// their files.
func (r *Runtime) ImageDisk(ctx context.Context) (Disk, error) {
	ctx = r.ctx(ctx)
	name, err := r.snapshotter(ctx)
	if err != nil {
		return Disk{}, r.wrap(err, "looking for the images' disk")
	}
	answer, err := r.client.IntrospectionService().Plugins(ctx,
		"type==io.containerd.snapshotter.v1,id=="+name, "type==io.containerd.content.v1,id==content")
	if err != nil {
		return Disk{}, r.wrap(err, "looking for the images' disk")
	}
	path := ""
	for _, p := range answer.Plugins {
		// A remote snapshotter may not say where its files are.
		if root := p.Exports["root"]; root != "" && (path == "" || p.ID == name) {
			path = root
		}
	}
	if path == "" {
		return Disk{}, fmt.Errorf("looking for the images' disk: containerd does not say where it is")
	}
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Disk{}, fmt.Errorf("asking how full the disk of %s is: %w", path, err)
	}
	return Disk{Path: path, Used: percentUsed(s)}, nil
}

// percentUsed is what df shows: of what users can have, without what is kept back
// for root.
func percentUsed(s unix.Statfs_t) int {
	used := s.Blocks - s.Bfree
	usable := used + s.Bavail
	if usable == 0 {
		return 0
	}
	return int((used*100 + usable - 1) / usable)
}

// ContainerImages are the references of the images of all containers in the
// namespace, whoever made them.
func (r *Runtime) ContainerImages(ctx context.Context) ([]string, error) {
	all, err := r.client.ContainerService().List(r.ctx(ctx))
	if err != nil {
		return nil, r.wrap(err, "listing containers")
	}
	var refs []string
	for _, c := range all {
		refs = append(refs, c.Image)
	}
	return refs, nil
}
