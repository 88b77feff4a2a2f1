package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/codec"
)

// print writes a response: as -o says in the API's own mapping, or by table.
func (s *session) print(response proto.Message, table func()) error {
	if s.output == "table" {
		table()
		return nil
	}
	return s.encode(response)
}

// encode writes a response as JSON or YAML.
func (s *session) encode(response proto.Message) error {
	marshal := codec.MarshalJSON
	if s.output == "yaml" {
		marshal = codec.MarshalYAML
	}
	data, err := marshal(response)
	if err != nil {
		return fmt.Errorf("encoding the response: %w", err)
	}
	_, err = s.out.Write(append(trimNewline(data), '\n'))
	return err
}

// encodeSparse is encode for what a person reads: a field that is not set is
// left out.
func (s *session) encodeSparse(response proto.Message) error {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(response)
	if err != nil {
		return fmt.Errorf("encoding the response: %w", err)
	}
	if s.output == "yaml" {
		return writeYAML(s.out, data)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, data, "", "  "); err != nil {
		return fmt.Errorf("encoding the response: %w", err)
	}
	_, err = fmt.Fprintln(s.out, indented.String())
	return err
}

// writeYAML writes JSON as YAML, its fields in the same order.
func writeYAML(w io.Writer, data []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return fmt.Errorf("encoding the response: %w", err)
	}
	inBlocks(&document)
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	return encoder.Encode(&document)
}

// inBlocks takes JSON's brackets and quotes away; those that YAML needs come back
// by themselves.
func inBlocks(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		inBlocks(child)
	}
}

func trimNewline(data []byte) []byte {
	return []byte(strings.TrimRight(string(data), "\n"))
}

// say prints a line about what was done, for people alone: programs get the
// response.
func (s *session) say(response proto.Message, format string, args ...any) error {
	return s.print(response, func() { fmt.Fprintf(s.out, format+"\n", args...) })
}
