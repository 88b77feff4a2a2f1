package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/codec"
)

// messagePrinter prints one message of a stream after the other.
type messagePrinter struct {
	add    func(proto.Message) error
	finish func() error
}

// messagePrinter prints as -o says: by table, one by one while they come, or as an
// object with one array, which has the name given.
func (s *session) messagePrinter(name string, follow bool, table func(proto.Message) error) messagePrinter {
	nothing := func() error { return nil }
	switch {
	case s.output == "table":
		return messagePrinter{table, nothing}
	case s.output == "yaml" && follow:
		return messagePrinter{s.yamlDocument, nothing}
	case follow:
		return messagePrinter{s.jsonLine, nothing}
	}
	var all []proto.Message
	return messagePrinter{
		add: func(m proto.Message) error {
			all = append(all, m)
			return nil
		},
		finish: func() error { return s.encodeList(name, all) },
	}
}

func (s *session) yamlDocument(m proto.Message) error {
	fmt.Fprintln(s.out, "---")
	return s.encode(m)
}

func (s *session) jsonLine(m proto.Message) error {
	data, err := codec.MarshalJSON(m)
	if err != nil {
		return fmt.Errorf("encoding the response: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return fmt.Errorf("encoding the response: %w", err)
	}
	_, err = s.out.Write(append(line.Bytes(), '\n'))
	return err
}

func (s *session) encodeList(name string, all []proto.Message) error {
	if len(all) == 0 {
		empty := map[string]string{"json": "{\n  %q: []\n}\n", "yaml": "%s: []\n"}
		_, err := fmt.Fprintf(s.out, empty[s.output], name)
		return err
	}
	if s.output == "yaml" {
		return s.encodeListYAML(name, all)
	}
	return s.encodeListJSON(name, all)
}

func (s *session) encodeListJSON(name string, all []proto.Message) error {
	objects := make([]json.RawMessage, 0, len(all))
	for _, m := range all {
		data, err := codec.MarshalJSON(m)
		if err != nil {
			return fmt.Errorf("encoding the response: %w", err)
		}
		objects = append(objects, data)
	}
	encoder := json.NewEncoder(s.out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string][]json.RawMessage{name: objects})
}

func (s *session) encodeListYAML(name string, all []proto.Message) error {
	fmt.Fprintln(s.out, name+":")
	for _, m := range all {
		data, err := codec.MarshalYAML(m)
		if err != nil {
			return fmt.Errorf("encoding the response: %w", err)
		}
		text := strings.ReplaceAll(string(trimNewline(data)), "\n", "\n    ")
		if _, err := fmt.Fprintln(s.out, "  - "+text); err != nil {
			return err
		}
	}
	return nil
}
