package launchspec

import (
	gopath "path"
	"strings"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// kernelDirs are mounted by every container's runtime, and hold no files of others.
var kernelDirs = []string{"/proc", "/sys", "/dev"}

// secretFiles checks where the files of secrets go. That two keys give one file
// shows only with the secrets at hand, unless both are single files.
func (c *collector) secretFiles(s *purserv1.LaunchSpec) {
	mounted := map[string]int{}
	for i, m := range s.GetMounts() {
		mounted[gopath.Clean(m.GetTarget())] = i
	}
	single := map[string]string{}
	for i, ref := range s.GetSecrets() {
		f := ref.GetFile()
		if !strings.HasPrefix(f.GetPath(), "/") {
			continue
		}
		at := path{"secrets", i, "file", "path"}
		if problem := misplaced(f); problem != "" {
			c.add(at, "file.path", "%s", problem)
			continue
		}
		if m, taken := mounted[FileDirectory(f)]; taken {
			c.add(at, "file.path", "must not be where mounts[%d] is: the files of a secret are in a directory of their own", m)
		}
		c.hiddenMounts(s.GetMounts(), ref)
		if FileFormat(f) == FormatKeys {
			continue
		}
		if other, taken := single[f.GetPath()]; taken {
			c.add(at, "file.path", "is the file of secret %s already", other)
		}
		single[f.GetPath()] = ref.GetName()
	}
}

// hiddenMounts finds what would be mounted below the directory of a secret's files,
// which is mounted over it and has no place for it.
func (c *collector) hiddenMounts(mounts []*purserv1.Mount, ref *purserv1.SecretRef) {
	dir := FileDirectory(ref.GetFile())
	for i, m := range mounts {
		if target := gopath.Clean(m.GetTarget()); target != dir && within(target, dir) {
			c.add(path{"mounts", i, "target"}, "mount.target", "must not be below %s, where the files of secret %s are", dir, ref.GetName())
		}
	}
}

// misplaced says what is wrong with a path; nothing when empty.
func misplaced(f *purserv1.SecretFile) string {
	p := f.GetPath()
	if gopath.Clean(p) != p {
		return "must be a plain path, without . or .., doubled slashes or one at the end"
	}
	if FileDirectory(f) == "/" {
		if FileFormat(f) == FormatKeys {
			return "must not be /"
		}
		return "must be in a directory of its own, such as /run/secrets: the directory is mounted whole, which / cannot be"
	}
	if strings.Contains(p, "/..") {
		return "must not name a file or directory that starts with .., as those purser keeps its own by"
	}
	for _, dir := range kernelDirs {
		if within(FileDirectory(f), dir) {
			return "must not be in " + dir + ", which is the kernel's"
		}
	}
	return ""
}

func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
