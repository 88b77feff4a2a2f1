package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

// Errors in this file name keys, lines, arguments by their place, and never
// the text itself: what is not a key may well be a value.

var keyPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

const (
	maxKey  = 256
	keyRule = "a key has letters, digits and underscores, does not start with a digit and is 256 long at most"
)

// harmless is the key of a registry's user, whom others may see on the command line.
const harmless = "USERNAME"

func isKey(text string) bool { return len(text) <= maxKey && keyPattern.MatchString(text) }

// cutKey splits K=V when K is a key.
func cutKey(pair string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(pair, "=")
	return key, value, ok && isKey(key)
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
	if key, removes := strings.CutSuffix(text, "-"); removes && isKey(key) {
		return argument{key: key, remove: true}, nil
	}
	key, value, ok := cutKey(text)
	if !ok {
		return argument{}, errors.New("must be K=V, K=-, K=@FILE or K-; " + keyRule)
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

// addDotenv reads a dotenv file: K=V lines, comments, quotes, escapes in
// double quotes.
func (d *secretData) addDotenv(path string) error {
	source, err := readFile(path, maxSecretSource)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	values, err := parseDotenv(string(source))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for key, value := range values {
		d.values[key] = []byte(value)
	}
	return nil
}

// parseDotenv takes every $ as it is: a password with a $ in it must arrive
// whole, whatever variables purser happens to have. The parser expands
// variables and cannot be told not to, so it is not shown the $.
func parseDotenv(source string) (map[string]string, error) {
	dollar := unusedRune(source)
	var bare []string
	parsed, err := dotenv.ParseWithLookup(strings.NewReader(strings.ReplaceAll(source, "$", dollar)), func(key string) (string, bool) {
		bare = append(bare, key) // a line with a key and no =
		return "", false
	})
	if err != nil {
		return nil, dotenvError(err)
	}
	if len(bare) > 0 {
		return nil, fmt.Errorf("a line has no =; each must be K=V")
	}
	values := make(map[string]string, len(parsed))
	for key, value := range parsed {
		if !isKey(key) {
			return nil, errors.New("a name is not a key: " + keyRule)
		}
		values[key] = strings.ReplaceAll(value, dollar, "$")
	}
	return values, nil
}

// unusedRune finds a character of Unicode's private use area that text has not.
func unusedRune(text string) string {
	r := '\uE000'
	for strings.ContainsRune(text, r) {
		r++
	}
	return string(r)
}

var linePattern = regexp.MustCompile(`^line \d+`)

// dotenvError tells where the mistake is. The parser's text quotes the line,
// value and all.
func dotenvError(err error) error {
	text := err.Error()
	what := "not a dotenv file: each line must be K=V"
	switch {
	case strings.Contains(text, "unterminated quoted value"):
		what = "a quoted value does not end"
	case strings.Contains(text, "variable name"), strings.Contains(text, "key cannot contain"):
		what = "not a key before the =: " + keyRule
	}
	if line := linePattern.FindString(text); line != "" {
		return fmt.Errorf("%s: %s", line, what)
	}
	return errors.New(what)
}

// addJSON reads an object of strings. Numbers and booleans are taken as they
// are written.
func (d *secretData) addJSON(path string) error {
	source, err := readFile(path, maxSecretSource)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	values, err := parseJSON(source)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for key, value := range values {
		d.values[key] = []byte(value)
	}
	return nil
}

func parseJSON(source []byte) (map[string]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(source))
	decoder.UseNumber()
	malformed := func() error { return fmt.Errorf("not JSON, at byte %d", decoder.InputOffset()) }
	if open, err := decoder.Token(); err != nil {
		return nil, malformed()
	} else if open != json.Delim('{') {
		return nil, errors.New("must be a JSON object of strings")
	}
	values := map[string]string{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, malformed()
		}
		value, err := decoder.Token()
		if err != nil {
			return nil, malformed()
		}
		if err := addJSONValue(values, key.(string), value); err != nil {
			return nil, err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, malformed()
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows after the JSON object")
	}
	return values, nil
}

func addJSONValue(values map[string]string, key string, value json.Token) error {
	if !isKey(key) {
		return errors.New("a name is not a key: " + keyRule)
	}
	if _, twice := values[key]; twice {
		return fmt.Errorf("%s is given twice", key)
	}
	switch v := value.(type) {
	case string:
		values[key] = v
	case json.Number:
		values[key] = v.String()
	case bool:
		values[key] = fmt.Sprint(v)
	default:
		return fmt.Errorf("%s must be a string, a number or a boolean", key)
	}
	return nil
}

// removed are the keys to leave out; a removed key is in no source.
func (d *secretData) removed() []string {
	slices.Sort(d.remove)
	return d.remove
}
