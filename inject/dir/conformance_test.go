package dir_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/purserd/purser/inject/dir"
	"github.com/purserd/purser/inject/source"
	"github.com/purserd/purser/inject/source/sourcetest"
)

// Each layout is written as those write it who use it.
func TestConformance(t *testing.T) {
	for name, layout := range map[string]struct {
		set    func(dir, secret string, data map[string]string) error
		remove func(dir, secret string) error
	}{
		"Kubernetes": {setKubernetes, removeDirectory},
		"JSON":       {setJSON, removeJSON},
	} {
		for _, environment := range []string{"prod", dir.AllEnvironments} {
			t.Run(name+environment, func(t *testing.T) {
				sourcetest.Run(t, func(t *testing.T) sourcetest.Place {
					path := t.TempDir()
					place := sourcetest.Place{
						Source:      dir.New(dir.Options{Path: path, Environment: environment}),
						Environment: "prod",
						Set: func(t testing.TB, name source.Name, data map[string]string) {
							if err := layout.set(path, name.Secret, data); err != nil {
								t.Error(err)
							}
						},
						Remove: func(t testing.TB, name source.Name) {
							if err := layout.remove(path, name.Secret); err != nil {
								t.Error(err)
							}
						},
					}
					if environment == dir.AllEnvironments {
						path = filepath.Join(path, "prod")
						must(t, os.Mkdir(path, 0o700))
						must(t, os.Mkdir(filepath.Join(filepath.Dir(path), "elsewhere"), 0o700))
					}
					return place
				})
			})
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var serial atomic.Uint64

// setKubernetes replaces what is in a volume as the kubelet does.
func setKubernetes(dir, secret string, data map[string]string) error {
	volume := filepath.Join(dir, secret)
	// The volume is made elsewhere when it is new: an empty one is not to be seen.
	if _, err := os.Lstat(volume); err != nil {
		made := filepath.Join(dir, "."+secret)
		if err := os.Mkdir(made, 0o700); err != nil {
			return err
		}
		if err := swap(made, data); err != nil {
			return err
		}
		return os.Rename(made, volume)
	}
	return swap(volume, data)
}

func swap(volume string, data map[string]string) error {
	before, _ := os.Readlink(filepath.Join(volume, "..data"))
	now := fmt.Sprintf("..2026_%d", serial.Add(1))
	if err := os.Mkdir(filepath.Join(volume, now), 0o700); err != nil {
		return err
	}
	for key, value := range data {
		if err := os.WriteFile(filepath.Join(volume, now, key), []byte(value), 0o600); err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Join(volume, key)); err != nil {
			if err := os.Symlink(filepath.Join("..data", key), filepath.Join(volume, key)); err != nil {
				return err
			}
		}
	}
	next := filepath.Join(volume, "..data_tmp")
	if err := os.Symlink(now, next); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(volume, "..data")); err != nil {
		return err
	}
	if before == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(volume, before))
}

// removeDirectory takes it out of sight first, as rm -r does not.
func removeDirectory(dir, secret string) error {
	gone := filepath.Join(dir, fmt.Sprintf(".gone%d", serial.Add(1)))
	if err := os.Rename(filepath.Join(dir, secret), gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

func setJSON(dir, secret string, data map[string]string) error {
	for _, value := range data {
		if !utf8.ValidString(value) { // JSON cannot hold it, and a directory can
			return setKubernetes(dir, secret, data)
		}
	}
	content, err := json.Marshal(data)
	if err != nil {
		return err
	}
	next := filepath.Join(dir, "."+secret+".json")
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, secret+".json"))
}

func removeJSON(dir, secret string) error { return os.Remove(filepath.Join(dir, secret+".json")) }
