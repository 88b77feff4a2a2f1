package main

import (
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// The excerpts are in the public domain: works of officers of the US federal
// government made as part of their duties (17 U.S.C. § 105), or older than copyright.
//
//go:embed corpus/*.txt
var corpus embed.FS

// passage is one paragraph of a speech, as it lies in the search index.
type passage struct {
	ObjectID  string `json:"objectID"`
	Title     string `json:"title"`
	President string `json:"president"`
	Year      int    `json:"year"`
	Text      string `json:"text"`
}

// source names the speech that the passage comes from.
func (p passage) source() string {
	return fmt.Sprintf("%s, %s (%d)", p.President, p.Title, p.Year)
}

// builtinPassages are all paragraphs of all speeches, in the order of file names.
func builtinPassages() ([]passage, error) {
	files, err := fs.Glob(corpus, "corpus/*.txt")
	if err != nil {
		return nil, err
	}
	var all []passage
	for _, file := range files {
		data, err := corpus.ReadFile(file)
		if err != nil {
			return nil, err
		}
		stem := strings.TrimSuffix(strings.TrimPrefix(file, "corpus/"), ".txt")
		passages, err := parseSpeech(stem, string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, passages...)
	}
	return all, nil
}

// parseSpeech reads "Title:", "President:" and "Year:" lines, then paragraphs
// parted by empty lines. The objects are numbered stem-1, stem-2…
func parseSpeech(stem, text string) ([]passage, error) {
	blocks := strings.Split(strings.TrimSpace(text), "\n\n")
	head, err := parseHead(blocks[0])
	if err != nil {
		return nil, err
	}
	var passages []passage
	for _, block := range blocks[1:] {
		p := head
		p.ObjectID = fmt.Sprintf("%s-%d", stem, len(passages)+1)
		p.Text = strings.Join(strings.Fields(block), " ")
		passages = append(passages, p)
	}
	if len(passages) == 0 {
		return nil, fmt.Errorf("no text after the header")
	}
	return passages, nil
}

func parseHead(block string) (passage, error) {
	fields := map[string]string{}
	for line := range strings.Lines(block) {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return passage{}, fmt.Errorf("header line %q has no colon", strings.TrimSpace(line))
		}
		fields[name] = strings.TrimSpace(value)
	}
	year, err := strconv.Atoi(fields["Year"])
	if err != nil {
		return passage{}, fmt.Errorf("header: year %q is not a number", fields["Year"])
	}
	if fields["Title"] == "" || fields["President"] == "" {
		return passage{}, fmt.Errorf("header lacks Title or President")
	}
	return passage{Title: fields["Title"], President: fields["President"], Year: year}, nil
}
