package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// ParseYAML reads one document with a mapping of strings. Numbers, booleans and dates are
// taken as they are written. Anchors, aliases, tags and null are refused.
func ParseYAML(source []byte) (map[string][]byte, error) { return ParseYAMLAs(source, Names{}) }

// ParseYAMLAs is ParseYAML with keys made of the names.
func ParseYAMLAs(source []byte, names Names) (map[string][]byte, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(source))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, errNoMapping
	} else if err != nil {
		return nil, yamlError(err)
	}
	var more yaml.Node
	if err := decoder.Decode(&more); err == nil {
		return nil, errors.New("more than one document")
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errNoMapping
	}
	return mapping(document.Content[0], names)
}

var errNoMapping = errors.New("must be a YAML mapping of strings")

func mapping(node *yaml.Node, names Names) (map[string][]byte, error) {
	all := newPairs(names)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		_, ok := names.Key(name.Value)
		if name.Kind != yaml.ScalarNode || !ok {
			return nil, fmt.Errorf("line %d: %w", name.Line, errNoKey)
		}
		if !isText(name) || !isText(value) {
			return nil, fmt.Errorf("line %d: %s must be a string, a number or a boolean, without anchor, alias or tag", value.Line, name.Value)
		}
		if err := all.add(name.Value, valueOf(value)); err != nil {
			return nil, fmt.Errorf("line %d: %w", name.Line, err)
		}
	}
	return all.values, nil
}

// valueOf is what a scalar has.
func valueOf(node *yaml.Node) string { return node.Value }

// isText says whether what is written is what is meant.
func isText(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.Anchor == "" && node.Style&yaml.TaggedStyle == 0 && node.Tag != "!!null" && node.Tag != "!!binary"
}

// yamlError tells where the mistake is. The parser's text may quote the line.
func yamlError(err error) error {
	if line := linePattern.FindString(err.Error()); line != "" {
		return fmt.Errorf("%s: not YAML", line)
	}
	return errors.New("not YAML")
}
