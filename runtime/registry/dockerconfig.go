package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	dockercredentials "github.com/docker/cli/cli/config/credentials"
)

// dockerHub is what docker's own registry is called in images' names, hubHost where
// it is reached, and hubKey its key in configuration files.
const (
	dockerHub = "docker.io"
	hubHost   = "registry-1.docker.io"
	hubKey    = "https://index.docker.io/v1/"
)

// ConfigError says that docker's configuration, or a program that it names, gives
// no credentials. Whether there are any is then not known.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// dockerCredentials looks hosts up in the file at path. One that is not there has
// none. Its credential helpers are run for as long as ctx lasts, but no longer than
// patience, each.
func dockerCredentials(ctx context.Context, path string, o origin, patience time.Duration) credentials {
	return func(host string) (username, password string, err error) {
		file, err := readDockerConfig(path)
		if err != nil || file == nil {
			return "", "", err
		}
		name := o.name(host)
		if helper := helperOf(file, name); helper != "" {
			username, password, err = askHelper(ctx, helper, name, patience)
		} else {
			username, password, err = lookUp(file, name)
		}
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
		if err != nil {
			err = &ConfigError{fmt.Errorf("looking for the credentials of %s as %s says: %w", host, path, err)}
		}
		return username, password, err
	}
}

// readDockerConfig returns nil without an error when there is no file.
func readDockerConfig(path string) (*configfile.ConfigFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &ConfigError{fmt.Errorf("opening docker's configuration: %w", err)}
	}
	defer f.Close()
	file := configfile.New(path)
	if err := file.LoadFromReader(f); err != nil {
		return nil, &ConfigError{fmt.Errorf("docker's configuration %s cannot be read: %w", path, err)}
	}
	return file, nil
}

// lookUp returns what a configuration itself has under a name. Nothing of the
// agent's environment gets in its way.
func lookUp(file *configfile.ConfigFile, name string) (username, password string, err error) {
	found, err := dockercredentials.NewFileStore(file).Get(name)
	if err != nil {
		return "", "", err
	}
	if found.IdentityToken != "" {
		return "", found.IdentityToken, nil
	}
	return found.Username, found.Password, nil
}
