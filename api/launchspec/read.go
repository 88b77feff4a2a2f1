package launchspec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Limits of a file. Well above any file a person keeps, they bound what a
// hostile one costs.
const (
	maxFile  = 4 << 20
	maxDepth = 32
	// maxNodes counts every value in the file, and those in the defaults
	// once for each function.
	maxNodes = 100_000
)

// read turns a file into nodes; nil means that it can't be read any further.
func (p *parser) read(data []byte) *yaml.Node {
	switch {
	case len(data) > maxFile:
		p.report(Problem{Rule: "file.size", Message: "is larger than 4 MiB"})
		return nil
	case !utf8.Valid(data):
		p.report(invalidText(data))
		return nil
	case strings.HasSuffix(p.file, ".json") || json.Valid(data):
		return p.readJSON(data)
	}
	return p.readYAML(data)
}

func invalidText(data []byte) Problem {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			line, column := position(data, at)
			return Problem{Line: line, Column: column, Rule: "file.text", Message: "is not UTF-8 text"}
		}
		at += size
	}
	return Problem{Rule: "file.text", Message: "is not UTF-8 text"}
}

// position counts lines and characters from 1.
func position(data []byte, offset int) (line, column int) {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte{'\n'}) + 1, utf8.RuneCount(before[start:]) + 1
}

func (p *parser) readYAML(data []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, next yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) || err == nil && isEmpty(&document) {
		p.report(Problem{Line: 1, Column: 1, Rule: "file.empty", Message: "says nothing"})
		return nil
	}
	if err != nil {
		p.report(syntaxProblem(err))
		return nil
	}
	switch err := decoder.Decode(&next); {
	case err == nil:
		p.report(Problem{Line: next.Line, Column: next.Column, Rule: "file.documents",
			Message: "holds a second document: write one file for each"})
	case !errors.Is(err, io.EOF):
		p.report(syntaxProblem(err))
	}
	return document.Content[0]
}

func isEmpty(document *yaml.Node) bool {
	return len(document.Content) != 1 || document.Content[0].Kind == yaml.ScalarNode && document.Content[0].Tag == "!!null"
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// countsFromZero are the errors of the library's grammar, whose lines are one
// too small; those of its scanner are right.
var countsFromZero = regexp.MustCompile(`^did not find expected (<|node content|'-' indicator|key|',' or)`)

// syntaxProblem takes the line from the text of an error; the library gives it
// nowhere else.
func syntaxProblem(err error) Problem {
	problem := Problem{Line: 1, Column: 1, Rule: "yaml.syntax", Message: "is no valid YAML: " + err.Error()}
	parts := yamlError.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	if parts == nil {
		return problem
	}
	if line, err := strconv.Atoi(parts[1]); err == nil {
		problem.Line = line
		if countsFromZero.MatchString(parts[2]) {
			problem.Line++
		}
	}
	problem.Message = "is no valid YAML: " + parts[2] + syntaxHint(parts[2])
	return problem
}

// syntaxHint says what people most often did when the library's words don't.
func syntaxHint(text string) string {
	switch {
	case strings.Contains(text, "cannot start any token"):
		return " (indent with spaces, not tabs; quote a value that starts with @, ` or %)"
	case strings.Contains(text, "mapping values are not allowed"):
		return " (is it indented too far, or is a value with a colon not quoted?)"
	case strings.Contains(text, "did not find expected key"), strings.Contains(text, "did not find expected '-'"):
		return " (is a line of this group indented differently from its neighbours?)"
	}
	return ""
}
