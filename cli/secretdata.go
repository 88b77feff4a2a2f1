package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/purserd/purser/api/secretfile"
)

// Errors in this file name keys, lines, arguments by their place, and never
// the text itself: what is not a key may well be a value.

// harmless is the key of a registry's user, whom others may see on the command line.
const harmless = "USERNAME"

// cutKey splits K=V when K is a key.
func cutKey(pair string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(pair, "=")
	return key, value, ok && secretfile.IsKey(key)
}

// secretData is what a `secret set` changes. Later sources win over earlier
// ones: dotenv, then JSON, then arguments.
type secretData struct {
	values map[string][]byte
	remove []string
	// visible are the keys whose values stood on the command line.
	visible []string
}

func newSecretData() *secretData {
	return &secretData{values: map[string][]byte{}}
}

// argument is one K=V, K=-, K=@FILE or K-.
type argument struct {
	key, value string
	remove     bool
}

func (a argument) fromStdin() bool { return !a.remove && a.value == "-" }

func parseArgument(text string) (argument, error) {
	if key, removes := strings.CutSuffix(text, "-"); removes && secretfile.IsKey(key) {
		return argument{key: key, remove: true}, nil
	}
	key, value, ok := cutKey(text)
	if !ok {
		return argument{}, errors.New("must be K=V, K=-, K=@FILE or K-; " + secretfile.KeyRule)
	}
	return argument{key: key, value: value}, nil
}

// parseArguments checks all of them before anything is read.
func parseArguments(texts []string) ([]argument, error) {
	seen := map[string]bool{}
	stdin := ""
	var all []argument
	for i, text := range texts {
		a, err := parseArgument(text)
		if err != nil {
			return nil, fmt.Errorf("argument %d after the name: %w", i+1, err)
		}
		if seen[a.key] {
			return nil, fmt.Errorf("%s is given twice", a.key)
		}
		if a.fromStdin() && stdin != "" {
			return nil, fmt.Errorf("%s and %s cannot both be read from standard input", stdin, a.key)
		}
		if a.fromStdin() {
			stdin = a.key
		}
		seen[a.key] = true
		all = append(all, a)
	}
	return all, nil
}

// addArguments takes what the command line says over what files said. input reads
// the value of a key from standard input.
func (d *secretData) addArguments(texts []string, input func(key string) ([]byte, error)) error {
	all, err := parseArguments(texts)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.remove {
			d.remove = append(d.remove, a.key)
			delete(d.values, a.key)
			continue
		}
		if d.values[a.key], err = d.read(a, input); err != nil {
			return &valueError{fmt.Errorf("reading the value of %s: %w", a.key, err)}
		}
	}
	return nil
}

func (d *secretData) read(a argument, input func(key string) ([]byte, error)) ([]byte, error) {
	path, isFile := strings.CutPrefix(a.value, "@")
	switch {
	case a.fromStdin():
		return input(a.key)
	case isFile && path == "":
		return nil, errors.New("@ is to be followed by the path of a file")
	case isFile:
		return readFile(path, maxSecretSource)
	default:
		if a.key != harmless {
			d.visible = append(d.visible, a.key)
		}
		return []byte(a.value), nil
	}
}

// readStdinValue reads all of stdin less the one newline that echo and
// editors put at the end. A file's bytes (K=@FILE) are taken as they are.
func readStdinValue(stdin io.Reader) ([]byte, error) {
	data, err := readAll(stdin, maxSecretSource)
	if err != nil {
		return nil, err
	}
	if rest, cut := bytes.CutSuffix(data, []byte("\n")); cut {
		data = bytes.TrimSuffix(rest, []byte("\r"))
	}
	if len(data) == 0 {
		return nil, errors.New("standard input is empty")
	}
	return data, nil
}

// addFile reads a file with K=V lines or JSON, as parse says.
func (d *secretData) addFile(path string, parse func([]byte) (map[string][]byte, error)) error {
	source, err := readFile(path, maxSecretSource)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	values, err := parse(source)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	maps.Copy(d.values, values)
	return nil
}

// removed are the keys to leave out; a removed key is in no source.
func (d *secretData) removed() []string {
	slices.Sort(d.remove)
	return d.remove
}
