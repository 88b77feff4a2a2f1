package store

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/google/renameio/v2"

	"github.com/purserd/purser/inject/internal/durable"
)

var (
	versionPattern = regexp.MustCompile(`^([1-9][0-9]*)\.age$`)
	journalPattern = regexp.MustCompile(`^` + journalPrefix + `[1-9][0-9]*$`)
	// temporaryPattern is how renameio names a file until it has its name.
	temporaryPattern = regexp.MustCompile(`^\.(_manifest\.json|[1-9][0-9]*\.age)[0-9]+$`)
)

func (s *Store) secretDir(environment, name string) string {
	return filepath.Join(s.dir, environment, name)
}

func (s *Store) versionPath(environment, name string, number uint32) string {
	return filepath.Join(s.secretDir(environment, name), strconv.FormatUint(uint64(number), 10)+".age")
}

// writeFile replaces a file durably: whatever happens, the old or the new content is
// there. With an error, replaced tells whether the new one is in place and may only
// not survive a loss of power.
func writeFile(path string, data []byte) (replaced bool, err error) {
	dir := filepath.Dir(path)
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return false, err
	}
	if _, err := file.Write(data); err != nil {
		return false, errors.Join(err, file.Cleanup())
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return false, errors.Join(err, file.Cleanup())
	}
	return true, durable.Sync(dir)
}

// versionFile is a file that lies where a version's would.
type versionFile struct {
	environment, name string
	number            uint32
	path              string
}

// versionFiles returns every such file, whether the manifest knows it or not.
func (s *Store) versionFiles() ([]versionFile, error) {
	var files []versionFile
	err := s.eachFile(func(environment, name, path string) {
		if match := versionPattern.FindStringSubmatch(filepath.Base(path)); match != nil {
			if number, err := strconv.ParseUint(match[1], 10, 32); err == nil {
				files = append(files, versionFile{environment, name, uint32(number), path})
			}
		}
	})
	return files, err
}

// eachFile calls visit for every file in a secret's directory, and leaves alone what
// purser could not have made.
func (s *Store) eachFile(visit func(environment, name, path string)) error {
	environments, err := namedDirs(s.dir)
	if err != nil {
		return err
	}
	for _, environment := range environments {
		names, err := namedDirs(filepath.Join(s.dir, environment))
		if err != nil {
			return err
		}
		for _, name := range names {
			dir := s.secretDir(environment, name)
			entries, err := os.ReadDir(dir)
			if err != nil {
				return err
			}
			for _, entry := range entries {
				visit(environment, name, filepath.Join(dir, entry.Name()))
			}
		}
	}
	return nil
}

func namedDirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && validName(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}
