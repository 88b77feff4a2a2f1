package cli

import (
	"fmt"
	"strings"

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

func trimNewline(data []byte) []byte {
	return []byte(strings.TrimRight(string(data), "\n"))
}

// say prints a line about what was done, for people alone: programs get the
// response.
func (s *session) say(response proto.Message, format string, args ...any) error {
	return s.print(response, func() { fmt.Fprintf(s.out, format+"\n", args...) })
}
