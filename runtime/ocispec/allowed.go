package ocispec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// MountPolicy says what of the node specs may mount.
type MountPolicy struct {
	// Roots are the directories that sources must lie under.
	Roots []string
	// Forbidden are directories and files that no mount may show, neither
	// themselves nor by showing something above or below them.
	Forbidden []string
	// Volume is where on the node a volume is; its error says what there is instead.
	// When nil, there are no volumes.
	Volume func(name string) (string, error)
}

// CheckMounts holds each mount's source, its links resolved, against the
// policy. It returns the mounts with the paths of their sources, links resolved
// so that one changed afterwards changes nothing, or all that is wrong at once.
func CheckMounts(mounts []*purserv1.Mount, policy MountPolicy) ([]*purserv1.Mount, error) {
	var checked []*purserv1.Mount
	var wrong []error
	for i, m := range mounts {
		m = proto.CloneOf(m)
		switch launchspec.MountType(m) {
		case launchspec.MountBind:
			source, err := policy.resolve(m.GetSource())
			if err != nil {
				wrong = append(wrong, fmt.Errorf("mounts[%d]: source %s: %w", i, m.GetSource(), err))
			}
			m.Source = &source
		case launchspec.MountVolume:
			source, err := policy.volume(m.GetSource())
			if err != nil {
				wrong = append(wrong, fmt.Errorf("mounts[%d].source: %w", i, err))
			}
			m.Source = &source
		}
		checked = append(checked, m)
	}
	return checked, errors.Join(wrong...)
}

func (p MountPolicy) volume(name string) (string, error) {
	if p.Volume == nil {
		return "", errors.New("the node keeps no volumes")
	}
	return p.Volume(name)
}

func (p MountPolicy) resolve(source string) (string, error) {
	real, err := filepath.EvalSymlinks(source)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("is not there; make it first")
	}
	if err != nil {
		return "", fmt.Errorf("resolving it: %w", err)
	}
	if len(p.Roots) == 0 {
		return "", errors.New("the node allows no mounts of its directories (allowed_roots is empty); use a volume")
	}
	if !underAny(real, p.Roots) {
		return "", fmt.Errorf("is %s, which is not under the node's allowed_roots (%s)", real, strings.Join(p.Roots, ", "))
	}
	for _, f := range p.Forbidden {
		if exposes(real, f) {
			return "", fmt.Errorf("would show %s, which no container may see", f)
		}
	}
	return real, nil
}

func underAny(path string, roots []string) bool {
	for _, r := range roots {
		if real, err := filepath.EvalSymlinks(r); err == nil && under(path, real) {
			return true
		}
	}
	return false
}

// exposes reports whether a mount of path would show what is forbidden. The
// same directory may be reached by another path through a bind mount, so
// path and all above it are compared by identity too.
func exposes(path, forbidden string) bool {
	if real, err := filepath.EvalSymlinks(forbidden); err == nil {
		forbidden = real
	}
	if under(path, forbidden) || under(forbidden, path) {
		return true
	}
	want, err := os.Stat(forbidden)
	if err != nil {
		return false
	}
	for {
		if have, err := os.Stat(path); err == nil && os.SameFile(have, want) {
			return true
		}
		if path == "/" {
			return false
		}
		path = filepath.Dir(path)
	}
}

// under reports whether path is dir or lies in it; both are clean and absolute.
func under(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}
