package launchspec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// readJSON makes the nodes that YAML's reader would. That one does not know
// all of JSON: "\/" and the two halves of a surrogate pair are errors to it.
func (p *parser) readJSON(data []byte) *yaml.Node {
	r := jsonReader{data: data, decoder: json.NewDecoder(bytes.NewReader(data))}
	r.decoder.UseNumber()
	root, err := r.value(0)
	stopped := r.next()
	if err == nil {
		err = r.end()
	}
	if err != nil {
		p.report(r.problem(err, stopped))
		return nil
	}
	return root
}

type jsonReader struct {
	data    []byte
	decoder *json.Decoder
	// Up to the offset counted there were so many line feeds, and the line
	// there begins at the offset start.
	counted, lines, start int
}

var errDepth = fmt.Errorf("nests deeper than %d levels", maxDepth)

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	n := r.here()
	token, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		return n, r.collection(n, t, depth+1)
	case string:
		n.Tag, n.Value, n.Style = "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!float", t.String()
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(t)
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, nil
}

func (r *jsonReader) collection(n *yaml.Node, open json.Delim, depth int) error {
	n.Kind = yaml.MappingNode
	if open == '[' {
		n.Kind = yaml.SequenceNode
	}
	if depth > maxDepth {
		return errDepth
	}
	for r.decoder.More() {
		child, err := r.value(depth)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, child)
	}
	_, err := r.decoder.Token()
	return err
}

// here makes a scalar node at the start of the next token.
func (r *jsonReader) here() *yaml.Node {
	line, column := r.position(r.next())
	return &yaml.Node{Kind: yaml.ScalarNode, Line: line, Column: column}
}

// next is where the next token starts: the decoder stands behind the last one.
func (r *jsonReader) next() int {
	offset := int(r.decoder.InputOffset())
	for offset < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[offset]) >= 0 {
		offset++
	}
	return offset
}

// position goes on counting lines from where it stopped, not from the start of
// the file each time.
func (r *jsonReader) position(offset int) (line, column int) {
	offset = min(max(offset, r.counted), len(r.data))
	r.lines += bytes.Count(r.data[r.counted:offset], []byte{'\n'})
	if i := bytes.LastIndexByte(r.data[r.counted:offset], '\n'); i >= 0 {
		r.start = r.counted + i + 1
	}
	r.counted = offset
	return r.lines + 1, utf8.RuneCount(r.data[r.start:offset]) + 1
}

func (r *jsonReader) end() error {
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the end of the value")
	}
	return nil
}

func (r *jsonReader) problem(err error, offset int) Problem {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = int(syntax.Offset) - 1
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset, err = len(r.data), errors.New("it ends too early")
	}
	line, column := r.position(offset)
	if errors.Is(err, errDepth) {
		return Problem{Line: line, Column: column, Rule: "file.depth", Message: err.Error()}
	}
	return Problem{Line: line, Column: column, Rule: "json.syntax", Message: "is no valid JSON: " + err.Error()}
}
