package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// What containers leave in directories of ours.

// namesIn are the entries of a directory, which may be missing.
func namesIn(dir string, is func(fs.DirEntry) bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if is(e) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// perOwner makes a thing of each ID.
func perOwner(ids []string, kind string, path func(id string) string, remove func(context.Context, string) error) []thing {
	var all []thing
	for _, id := range ids {
		all = append(all, thing{kind: kind, name: path(id), owner: id, remove: func(ctx context.Context) error { return remove(ctx, id) }})
	}
	return all
}

// perDir makes a thing of each directory that is no container's.
func perDir(dirs []string, kind string, remove func(dir string) error) []thing {
	var all []thing
	for _, dir := range dirs {
		all = append(all, thing{kind: kind, name: dir, remove: func(context.Context) error { return remove(dir) }})
	}
	return all
}

func (r *Runtime) leftFiles(context.Context) ([]thing, error) {
	ids, err := namesIn(r.cfg.instancesDir(), fs.DirEntry.IsDir)
	return perOwner(ids, LeakFiles, r.cfg.instanceDir, func(_ context.Context, id string) error { return r.cfg.removeFiles(id) }), err
}

// leftSecretFiles lists the files of secrets and the marks of those who hold some.
func (r *Runtime) leftSecretFiles(context.Context) ([]thing, error) {
	ids, err := namesIn(filepath.Join(r.cfg.privateDir(), secretFilesDir), fs.DirEntry.IsDir)
	if err != nil {
		return nil, err
	}
	holders, err := r.handover.Held()
	if err != nil {
		return nil, err
	}
	all := perOwner(ids, LeakSecretFiles, r.cfg.secretFiles, func(_ context.Context, id string) error { return r.cfg.removeSecretFiles(id) })
	mark := func(id string) string { return "mark of " + id }
	return append(all, perOwner(holders, LeakSecretFiles, mark, func(_ context.Context, id string) error { return r.handover.Release(id) })...), nil
}

// leftRoots lists writable layers: what else somebody keeps there is not ours.
func (r *Runtime) leftRoots(context.Context) ([]thing, error) {
	if r.cfg.RootDir == "" {
		return nil, nil
	}
	ids, err := namesIn(r.cfg.RootDir, func(e fs.DirEntry) bool {
		dir := r.cfg.rootDir(e.Name())
		return e.IsDir() && !strings.HasPrefix(e.Name(), trialPrefix) && exists(filepath.Join(dir, "upper")) && exists(filepath.Join(dir, "work"))
	})
	return perOwner(ids, LeakRootfs, r.cfg.rootDir, func(_ context.Context, id string) error { return r.cfg.removeRoot(id) }), err
}

func (r *Runtime) leftOutput(context.Context) ([]thing, error) {
	ids, err := r.helper.Instances()
	path := func(id string) string { return "log helper's files of " + id }
	return perOwner(ids, LeakOutput, path, func(ctx context.Context, id string) error {
		if err := r.endStreams(ctx, id); err != nil {
			return err
		}
		return r.helper.Forget(id)
	}), err
}

// leftLogs lists logs; other directories say nothing about an instance.
func (r *Runtime) leftLogs(context.Context) ([]thing, error) {
	ids, err := r.logs.Instances()
	ids = slices.DeleteFunc(ids, func(id string) bool {
		_, err := r.logs.About(id)
		return err != nil
	})
	path := func(id string) string { return filepath.Join(r.cfg.LogDir, id) }
	return perOwner(ids, LeakLog, path, func(_ context.Context, id string) error { return r.logs.Remove(id) }), err
}

// leftExecs lists the directories of commands that containerd has no more of, in
// containers whose commands are looked after: takeUpExecs has been there.
func (r *Runtime) leftExecs(ctx context.Context) ([]thing, error) {
	r.mu.Lock()
	var ids []string
	for id := range r.streams {
		ids = append(ids, id)
	}
	r.mu.Unlock()
	var all []thing
	for _, id := range ids {
		dirs, err := filepath.Glob(filepath.Join(r.cfg.instanceDir(id), execPrefix+"*"))
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			_, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id, ExecID: filepath.Base(dir)})
			if isNotFound(err) {
				all = append(all, perDir([]string{dir}, LeakExec, os.RemoveAll)...)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// leftMounts lists where images were mounted to be looked into.
func (r *Runtime) leftMounts(context.Context) ([]thing, error) {
	dirs, err := r.cfg.mountDirs()
	return perDir(dirs, LeakMount, unmount), err
}

// leftTrials lists where something was tried out.
func (r *Runtime) leftTrials(context.Context) ([]thing, error) {
	dirs, err := r.cfg.trialDirs()
	left := perDir(dirs, LeakTrial, removeTrial)
	for _, c := range r.cfg.trialCgroups() {
		left = append(left, thing{kind: LeakTrial, name: c.path, remove: c.remove})
	}
	return left, err
}
