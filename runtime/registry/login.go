package registry

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config/configfile"

	"github.com/purserd/purser/inject"
)

// The keys of a secret that a registry's credentials are in.
const (
	KeyUsername     = "USERNAME"
	KeyPassword     = "PASSWORD"
	KeyDockerConfig = "DOCKERCONFIGJSON"
)

// Login is the credentials that a secret holds.
type Login struct {
	// From names the secret and its version.
	From string
	// set is the command that sets it anew.
	set string

	username, password inject.Value
	// config is a docker configuration file in place of the two.
	config *inject.Value
}

// NewLogin reads the credentials of a secret. An error names the keys that it lacks.
func NewLogin(secret *inject.Secret) (*Login, error) {
	set := fmt.Sprintf("purser secret set -E %s %s ", secret.Environment, secret.Name)
	l := &Login{From: fmt.Sprintf("secret %s, version %d", secret.Name, secret.Version)}
	l.set = set + KeyUsername + "=… " + KeyPassword + "=-"
	if config, ok := secret.Data[KeyDockerConfig]; ok {
		l.config, l.set = &config, set+KeyDockerConfig+"=@config.json"
		return l, nil
	}
	username, hasName := secret.Data[KeyUsername]
	password, hasPassword := secret.Data[KeyPassword]
	if !hasName || !hasPassword {
		keys := slices.Sorted(maps.Keys(secret.Data))
		return nil, fmt.Errorf("secret %s in environment %s holds no credentials of a registry: it needs the keys %s and %s, or %s with a docker configuration; it has %s",
			secret.Name, secret.Environment, KeyUsername, KeyPassword, KeyDockerConfig, strings.Join(keys, ", "))
	}
	l.username, l.password = username, password
	return l, nil
}

// credentials gives a host its username and password; an empty name goes with an
// identity token, and nothing at all with a host that has none.
type credentials func(host string) (username, password string, err error)

// credentials gives a username and password to the registry alone that the image is
// named after, and of a docker configuration what that has for a host.
func (l *Login) credentials(o origin) credentials {
	return func(host string) (string, string, error) {
		if l.config != nil {
			return l.fromConfig(o.name(host))
		}
		if host != o.host {
			return "", "", nil
		}
		username, password := l.username.Reveal(), l.password.Reveal()
		defer clear(username)
		defer clear(password)
		return string(username), string(password), nil
	}
}

// fromConfig looks a name up in a docker configuration. The programs that one may
// name are not run: what a secret says must not choose what the agent executes.
func (l *Login) fromConfig(name string) (string, string, error) {
	content := l.config.Reveal()
	defer clear(content)
	file := configfile.New("")
	// Its error may quote the content.
	if file.LoadFromReader(bytes.NewReader(content)) != nil {
		return "", "", &ConfigError{fmt.Errorf("key %s of %s is no docker configuration file: it must be JSON, as docker login writes it", KeyDockerConfig, l.From)}
	}
	return lookUp(file, name)
}

// lacks says whether the login is a docker configuration that has nothing for a
// registry, nor for the host that it was reached at.
func (l *Login) lacks(host, registry string) bool {
	if l == nil || l.config == nil {
		return false
	}
	names := []string{host, registry}
	if registry == dockerHub {
		names = append(names, hubKey)
	}
	return !slices.ContainsFunc(names, func(name string) bool {
		username, password, err := l.fromConfig(name)
		return err != nil || username != "" || password != ""
	})
}
