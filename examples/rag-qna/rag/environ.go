package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// config is the program's environment, read.
type config struct {
	index         string
	socket        string
	model         string
	openAIURL     string
	openAIKey     string
	algoliaURL    string
	algoliaKey    string
	applicationID string
}

// parseConfig reads the environment. What every subcommand needs must be there,
// and so must what it names in more; the error lists everything that is not.
func parseConfig(environ []string, more ...string) (config, error) {
	env := environMap(environ)
	required := append([]string{"ALGOLIA_API_KEY", "ALGOLIA_APPLICATION_ID", "ALGOLIA_BASE_URL", "ALGOLIA_INDEX"}, more...)
	missing := slices.DeleteFunc(required, func(name string) bool { return env[name] != "" })
	if len(missing) > 0 {
		slices.Sort(missing)
		return config{}, fmt.Errorf("not set in the environment: %s", strings.Join(missing, ", "))
	}
	return config{
		index:         env["ALGOLIA_INDEX"],
		socket:        socketPath(env),
		model:         env["OPENAI_MODEL"],
		openAIURL:     strings.TrimSuffix(env["OPENAI_BASE_URL"], "/"),
		openAIKey:     env["OPENAI_API_KEY"],
		algoliaURL:    strings.TrimSuffix(env["ALGOLIA_BASE_URL"], "/"),
		algoliaKey:    env["ALGOLIA_API_KEY"],
		applicationID: env["ALGOLIA_APPLICATION_ID"],
	}, nil
}

// apiTimeout bounds one call of either API.
const apiTimeout = 30 * time.Second

func (c config) searchClient() searchClient {
	return searchClient{
		http: &http.Client{Timeout: apiTimeout},
		base: c.algoliaURL, application: c.applicationID, key: c.algoliaKey,
	}
}

func (c config) answerer() answerer {
	return answerer{
		index:  c.index,
		search: c.searchClient(),
		chat: chatClient{
			http: &http.Client{Timeout: apiTimeout},
			base: c.openAIURL, key: c.openAIKey, model: c.model,
		},
	}
}

// socketPath is where the service listens, and where ask finds it.
func socketPath(env map[string]string) string {
	if path := env["RAG_SOCKET"]; path != "" {
		return path
	}
	return "/tmp/rag.sock"
}

func environMap(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	return env
}

// printEnviron writes one variable a line, sorted. A key is shown by its
// fingerprint: enough to tell two keys apart, useless to anyone else.
func printEnviron(w io.Writer, environ []string) error {
	for _, kv := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasSuffix(name, "_KEY") {
			value = fmt.Sprintf("(%d bytes, fingerprint %s)", len(value), fingerprint(value))
		}
		if _, err := fmt.Fprintf(w, "%s=%s\n", name, value); err != nil {
			return err
		}
	}
	return nil
}

// spill prints the keys as they are, and once more in base64, as careless programs do.
func spill(w io.Writer, environ []string) error {
	env := environMap(environ)
	for _, name := range []string{"ALGOLIA_API_KEY", "OPENAI_API_KEY"} {
		header := base64.StdEncoding.EncodeToString([]byte("rag:" + env[name]))
		if _, err := fmt.Fprintf(w, "%s=%s\nAuthorization: Basic %s\n", name, env[name], header); err != nil {
			return err
		}
	}
	return nil
}

// fingerprint is the first 8 hex digits of the SHA-256 of a key.
func fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:4])
}
