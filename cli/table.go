package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// table prints aligned columns under a heading.
type table struct {
	out   io.Writer
	lines bytes.Buffer
	w     *tabwriter.Writer
}

func newTable(w io.Writer, headings ...string) *table {
	t := &table{out: w}
	t.w = tabwriter.NewWriter(&t.lines, 0, 0, 2, ' ', 0)
	if len(headings) > 0 {
		t.row(headings...)
	}
	return t
}

// row adds a line.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// field adds a line of a listing by name; one without a value is left out.
func (t *table) field(name, value string) {
	if value != "" {
		t.row(name+":", value)
	}
}

// flush prints the table, without the spaces that pad lines at their ends.
func (t *table) flush() {
	t.w.Flush()
	for line := range strings.Lines(t.lines.String()) {
		fmt.Fprintln(t.out, strings.TrimRight(line, " \n"))
	}
	t.lines.Reset()
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
