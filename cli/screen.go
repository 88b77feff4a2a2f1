package cli

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is what something is printed on.
type screen struct {
	// width in columns; 0 for as many as it takes.
	width int
	// colour says whether escape sequences are understood and wanted.
	colour bool
}

// screenOf tells of a terminal how wide it is, and whether its user wants colour
// (no-color.org); everything else has neither.
func screenOf(w io.Writer) screen {
	file, ok := terminalFile(w)
	if !ok {
		return screen{}
	}
	s := screen{colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(file.Fd())); err == nil {
		s.width = width
	}
	return s
}

// terminalFile returns a stream as the terminal that it is.
func terminalFile(stream any) (*os.File, bool) {
	file, ok := stream.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd()))
}

// bar shows how much is done of something.
func bar(done, total uint64) string {
	part := 0
	if total > 0 {
		part = int(min(done, total) * barWidth / total)
	}
	return "[" + strings.Repeat("=", part) + strings.Repeat(" ", barWidth-part) + "]"
}

// barWidth is what is between a bar's brackets.
const barWidth = 30

// shorten cuts text that is longer than it may be.
func shorten(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(width-1, 0)]) + "…"
}

// elide cuts the middle out of text that is longer than it may be.
func elide(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	end := max(width-1, 0) / 2
	return string(runes[:max(width-1-end, 0)]) + "…" + string(runes[len(runes)-end:])
}

// wrap breaks text into lines, between words where these are not too long themselves.
func wrap(text string, width int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(text) {
		line := &lines[len(lines)-1]
		switch {
		case *line == "":
			*line = word
		case utf8.RuneCountInString(*line)+1+utf8.RuneCountInString(word) <= width:
			*line += " " + word
		default:
			lines = append(lines, word)
		}
		for rest := []rune(lines[len(lines)-1]); len(rest) > width; rest = rest[width:] {
			lines[len(lines)-1] = string(rest[:width])
			lines = append(lines, string(rest[width:]))
		}
	}
	return lines
}
