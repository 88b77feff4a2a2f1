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
	// whole is how many columns, from the first, are never cut: they name what the row
	// is about.
	whole int
	// spare are the headings of columns that a narrow screen can do without, the least
	// needed first.
	spare []string
}

func newTable(w io.Writer, headings ...string) *table {
	t := &table{out: w, screen: screenOf(w), whole: 1, styles: map[int]func(string) style{}}
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
	widths := t.fit()
	for i, row := range t.rows {
		var line strings.Builder
		for column, cell := range row {
			if widths[column] == 0 {
				continue // left out
			}
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

// least is the width below which a column is not made narrower: that of the longest
// state, and of all numbers, sizes and ages.
const least = 11

// fit gives the widths of the columns, 0 for those that are left out. Where the
// screen is narrower than the table, columns are cut, the widest first, and where
// that is not enough, spare ones are left out before.
func (t *table) fit() []int {
	widths := t.widths()
	if t.screen.width == 0 || t.heads == 0 {
		return widths // a listing by name is read line by line
	}
	for _, heading := range t.spare {
		if t.narrowest(widths) <= t.screen.width {
			break
		}
		if i := slices.Index(t.rows[0], heading); i >= 0 {
			widths[i] = 0
		}
	}
	for total(widths) > t.screen.width {
		widest := -1
		for i := t.whole; i < len(widths); i++ {
			if widths[i] > least && (widest < 0 || widths[i] >= widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

// widths are those that the columns take of themselves.
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
	return widths
}

// narrowest is how narrow the table can be made by cutting alone.
func (t *table) narrowest(widths []int) int {
	cut := slices.Clone(widths)
	for i := t.whole; i < len(cut); i++ {
		cut[i] = min(cut[i], least)
	}
	return total(cut)
}

// total is the width of a table with such columns.
func total(widths []int) int {
	n := -len(gap)
	for _, w := range widths {
		if w > 0 {
			n += w + len(gap)
		}
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
