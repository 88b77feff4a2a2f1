package main

import (
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// build makes the image: the config given, and one layer of the sources.
func build(config v1.Config, sources []source) (v1.Image, error) {
	l, err := layer(sources)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{
		Layer:   l,
		History: v1.History{CreatedBy: "examples/image"},
	})
	if err != nil {
		return nil, fmt.Errorf("adding the layer: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Config = config
	file.OS, file.Architecture = platform().OS, platform().Architecture
	return mutate.ConfigFile(image, file)
}

// refName is the annotation by which a layout names its images.
const refName = "org.opencontainers.image.ref.name"

// writeLayout writes the image into dir, in place of what an earlier run left there.
func writeLayout(dir, ref string, image v1.Image) error {
	if err := removeLayout(dir); err != nil {
		return err
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return p.AppendImage(image, layout.WithPlatform(platform()), layout.WithAnnotations(map[string]string{refName: ref}))
}

// removeLayout removes an image layout and nothing else: a mistyped -o must not
// cost anyone a directory.
func removeLayout(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := layout.FromPath(dir); err != nil {
		return fmt.Errorf("the directory is there and is no OCI image layout: %w", err)
	}
	return os.RemoveAll(dir)
}
