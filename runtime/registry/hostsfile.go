package registry

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// hostsFile is a hosts.toml, as containerd documents it.
type hostsFile struct {
	hostSettings
	Server string                  `toml:"server"`
	Hosts  map[string]hostSettings `toml:"host"`
}

// hostSettings say how one host is reached.
type hostSettings struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// readHosts reads the hosts.toml of a registry, strictly; one that is not there is
// empty.
func readHosts(dir string) (hostsFile, error) {
	path := filepath.Join(dir, "hosts.toml")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return hostsFile{}, nil
	}
	if err != nil {
		return hostsFile{}, fmt.Errorf("reading a registry's hosts: %w", err)
	}
	var file hostsFile
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&file); err != nil {
		return hostsFile{}, fmt.Errorf("%s: %s", path, decodeText(err))
	}
	if key, err := file.check(dir); err != nil {
		return hostsFile{}, fmt.Errorf("%s, line %d: %s %w", path, lineOf(data, key), key[len(key)-1], err)
	}
	return file, nil
}

// decodeText is an error of the decoder by line and key.
func decodeText(err error) string {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := unknown.Errors[0]
		line, _ := first.Position()
		key := first.Key()
		return fmt.Sprintf("line %d: %s is no setting of a host: there are %s", line, key[len(key)-1],
			"server, host, capabilities, ca, client, skip_verify, header, override_path and dial_timeout")
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		line, _ := wrong.Position()
		text := strings.TrimPrefix(wrong.Error(), "toml: ")
		if key := wrong.Key(); len(key) > 0 {
			text = key[len(key)-1] + ": " + text
		}
		return fmt.Sprintf("line %d: %s", line, text)
	}
	return err.Error()
}

// check names the key that is wrong, from the table that it is in.
func (f hostsFile) check(dir string) (key []string, err error) {
	if err := checkServer(f.Server); err != nil {
		return []string{"server"}, err
	}
	if key, err := f.hostSettings.check(dir); err != nil {
		return []string{key}, err
	}
	for host, settings := range f.Hosts {
		if err := checkServer(host); err != nil {
			return []string{host, host}, err
		}
		if key, err := settings.check(dir); err != nil {
			return []string{host, key}, err
		}
	}
	return nil, nil
}

func checkServer(server string) error {
	if server == "" {
		return nil
	}
	if !strings.HasPrefix(server, "http") {
		server = "https://" + server
	}
	if u, err := url.Parse(server); err != nil || u.Host == "" {
		return errors.New("is no host: it must be as https://registry.example")
	}
	return nil
}

func (s hostSettings) check(dir string) (key string, err error) {
	for _, c := range s.Capabilities {
		if !slices.Contains([]string{"pull", "resolve", "push", "referrers"}, strings.ToLower(c)) {
			return "capabilities", fmt.Errorf("has %q: there are pull, resolve, push and referrers", c)
		}
	}
	if err := checkCA(s.CA, dir); err != nil {
		return "ca", err
	}
	if err := checkClient(s.Client, dir); err != nil {
		return "client", err
	}
	for name, value := range s.Header {
		if _, ok := texts(value); !ok {
			return "header", fmt.Errorf("has for %s neither a text nor a list of texts", name)
		}
	}
	if s.DialTimeout != "" {
		if _, err := time.ParseDuration(s.DialTimeout); err != nil {
			return "dial_timeout", fmt.Errorf("is %q: it must be a time, such as 10s", s.DialTimeout)
		}
	}
	return "", nil
}

func checkCA(ca any, dir string) error {
	if ca == nil {
		return nil
	}
	paths, ok := texts(ca)
	if !ok {
		return errors.New("must be a file of certificates, or a list of such")
	}
	for _, path := range paths {
		data, err := os.ReadFile(absolute(path, dir))
		if err != nil {
			return fmt.Errorf("cannot be read: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(data) {
			return fmt.Errorf("names %s, which has no certificate in PEM", path)
		}
	}
	return nil
}

// checkClient checks a file of a certificate and its key, a list of such, or a list of
// pairs of two files.
func checkClient(client any, dir string) error {
	if client == nil {
		return nil
	}
	all, isList := client.([]any)
	if !isList {
		all = []any{client}
	}
	for _, one := range all {
		pair, ok := texts(one)
		if _, single := one.(string); !ok || !single && len(pair) != 2 {
			return errors.New("must be a file, a list of files, or a list of pairs of a certificate and its key")
		}
		cert, key := absolute(pair[0], dir), absolute(pair[len(pair)-1], dir)
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			return fmt.Errorf("cannot be used: %w", err)
		}
	}
	return nil
}

// texts are those of a value that is one or a list of such.
func texts(value any) ([]string, bool) {
	if text, ok := value.(string); ok {
		return []string{text}, true
	}
	list, ok := value.([]any)
	var all []string
	for _, item := range list {
		text, is := item.(string)
		ok = ok && is
		all = append(all, text)
	}
	return all, ok
}

func absolute(path, dir string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// lineOf is the line that a key is on: the first that begins with the last of it, after
// those that the others are on.
func lineOf(data []byte, key []string) int {
	line := 0
	lines := strings.Split(string(data), "\n")
	for i, name := range key {
		for at := line; at < len(lines); at++ {
			text := strings.TrimLeft(lines[at], " \t")
			if i < len(key)-1 && strings.HasPrefix(text, "[") && strings.Contains(text, name) ||
				i == len(key)-1 && (strings.HasPrefix(text, name) || strings.HasPrefix(text, "[") && strings.Contains(text, name)) {
				line = at
				break
			}
		}
	}
	return line + 1
}
