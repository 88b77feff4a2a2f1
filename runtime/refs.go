package runtime

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// NormalizeRef returns a reference in full, as docker completes it: busybox is
// docker.io/library/busybox:latest. A digest makes a tag beside it meaningless.
func NormalizeRef(ref string) (string, error) {
	if scheme, rest, has := strings.Cut(ref, "://"); has {
		return "", fmt.Errorf("image reference %q: leave %s:// out, as in %s", ref, scheme, rest)
	}
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fmt.Errorf("image reference %q: %w", ref, err)
	}
	return named.String(), nil
}

var (
	tagOnly  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	notInRef = regexp.MustCompile(`[^a-z0-9]+`)
)

// importedRef names an image of an archive: by the archive's own name for it
// when that is a reference, else localhost/STEM:TAG.
func importedRef(own, stem string) (string, error) {
	if own != "" && !tagOnly.MatchString(own) {
		return NormalizeRef(own)
	}
	if own == "" {
		own = "latest"
	}
	stem = strings.Trim(notInRef.ReplaceAllString(strings.ToLower(stem), "-"), "-")
	if stem == "" {
		stem = "imported"
	}
	return NormalizeRef("localhost/" + stem + ":" + own)
}

// repository is a reference without its tag or digest.
func repository(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return named.Name()
}

// digestOf returns the digest that a reference names, or "".
func digestOf(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	if d, ok := named.(reference.Digested); ok {
		return d.Digest().String()
	}
	return ""
}
