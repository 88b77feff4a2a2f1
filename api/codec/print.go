package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonMapping writes the names that users type, and fields without presence
// even when they are empty, so that a script finds every list.
var jsonMapping = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// MarshalJSON writes a message as indented JSON with a newline at the end. The
// same message gives the same bytes: protojson alone varies its white space
// from build to build.
func MarshalJSON(m proto.Message) ([]byte, error) {
	compact, err := jsonMapping.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing %s as JSON: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("indenting JSON: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// MarshalYAML writes a message as YAML, its fields in the order of JSON.
func MarshalYAML(m proto.Message) ([]byte, error) {
	compact, err := jsonMapping.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing %s as YAML: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	decoder := json.NewDecoder(bytes.NewReader(compact))
	decoder.UseNumber()
	root, err := yamlNode(decoder)
	if err != nil {
		return nil, fmt.Errorf("turning JSON into YAML: %w", err)
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	return b.Bytes(), nil
}

// yamlNode reads one JSON value. Nodes rather than maps keep the order, and
// YAML's own reader does not understand every JSON string.
func yamlNode(d *json.Decoder) (*yaml.Node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		return yamlCollection(d, t)
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: t}, nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: t.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(t)}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
}

// yamlCollection reads the rest of an object or array after its opening
// bracket. Keys and values alternate in a mapping's content, as they do among
// an object's tokens.
func yamlCollection(d *json.Decoder, open json.Delim) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	if open == '[' {
		n.Kind = yaml.SequenceNode
	}
	for d.More() {
		child, err := yamlNode(d)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, child)
	}
	_, err := d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
