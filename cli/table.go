package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// table prints aligned columns under a heading. On a terminal it is no wider than that.
type table struct {
	out    io.Writer
	screen screen
	heads  int // rows of headings
	rows   [][]string
	styles map[int]func(cell string) style // by column
}

func newTable(w io.Writer, headings ...string) *table {
	t := &table{out: w, screen: screenOf(w), styles: map[int]func(string) style{}}
	if len(headings) > 0 {
		t.row(headings...)
		t.heads = 1
	}
	return t
}

// style gives the cells under a heading their styles.
func (t *table) style(heading string, of func(cell string) style) {
	if i := slices.Index(t.rows[0], heading); i >= 0 {
		t.styles[i] = of
	}
}

// row adds a line.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	t.rows = append(t.rows, cells)
}

// field adds a line of a listing by name; one without a value is left out.
func (t *table) field(name, value string) {
	if value != "" {
		t.row(name+":", value)
	}
}

// gap is what is between two columns.
const gap = "  "

// flush prints the table, without spaces at the ends of lines.
func (t *table) flush() {
	widths := t.widths()
	for i, row := range t.rows {
		var line strings.Builder
		for column, cell := range row {
			cell = shorten(cell, widths[column])
			line.WriteString(t.screen.paint(cell, t.styleOf(i, column, row[column])))
			if column < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[column]-utf8.RuneCountInString(cell)) + gap)
			}
		}
		fmt.Fprintln(t.out, strings.TrimRight(line.String(), " "))
	}
	t.rows, t.heads = nil, 0
}

func (t *table) styleOf(row, column int, cell string) style {
	if row < t.heads {
		return dim
	}
	if of := t.styles[column]; of != nil {
		return of(cell)
	}
	return plainText
}

// least is the width below which a column is not made narrower.
const least = 8

// widths are those of the columns. Where the screen is narrower than the table, the
// widest columns give way, but never the first, which says what the row is about.
func (t *table) widths() []int {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	if t.screen.width == 0 || t.heads == 0 {
		return widths // a listing by name is read line by line
	}
	for sum(widths)+len(gap)*(len(widths)-1) > t.screen.width {
		widest := 0
		for i := 1; i < len(widths); i++ {
			if widths[i] > least && (widest == 0 || widths[i] >= widths[widest]) {
				widest = i
			}
		}
		if widest == 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

func sum(all []int) (n int) {
	for _, one := range all {
		n += one
	}
	return n
}

// printable keeps what the node tells from moving the cursor, colouring the
// terminal or breaking the table.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) && r != ' ' {
			return ' '
		}
		return r
	}, text)
}

// age is how long ago at was, in its largest unit: 5s, 3m, 2h, 4d.
func age(at *timestamppb.Timestamp, now time.Time) string {
	if at == nil {
		return "-"
	}
	return shortDuration(now.Sub(at.AsTime()))
}

// ago is age in a sentence: 3m ago.
func ago(at *timestamppb.Timestamp, now time.Time) string {
	if at == nil {
		return "-"
	}
	return age(at, now) + " ago"
}

func shortDuration(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// clock is a moment in the local time zone; empty for none.
func clock(at *timestamppb.Timestamp) string {
	if at == nil {
		return ""
	}
	return at.AsTime().Local().Format("2006-01-02 15:04:05")
}

// bytesText is a size in binary units.
func bytesText(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// orDash shows an empty cell as a dash.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
