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
	out      io.Writer
	screen   screen
	headings []string
	heads    int // rows of headings that are still to be printed
	rows     [][]string
	styles   map[int]func(cell string) style // by column
	// whole is how many columns, from the first, are cut last: they name what the row is
	// about.
	whole int
	// short are shorter ways to write columns, which a narrow screen gets first.
	short []shortForm
	// spare are the headings of columns that a narrow screen can do without, the least
	// needed first.
	spare []string
	// fixed are the widths of a table whose rows are printed while they come.
	fixed []int
	// wraps says that the last column, a text, goes on below itself instead of being cut;
	// leastText is how narrow it may become.
	wraps     bool
	leastText int
}

// shortForm is a shorter way to write a column, and its width.
type shortForm struct {
	heading string
	width   int
	of      func(cell string) string
}

func newTable(w io.Writer, headings ...string) *table {
	t := &table{out: w, screen: screenOf(w), headings: headings, whole: 1, leastText: leastText, styles: map[int]func(string) style{}}
	if len(headings) > 0 {
		t.row(slices.Clone(headings)...)
		t.heads = 1
	}
	return t
}

// style gives the cells under a heading their styles.
func (t *table) style(heading string, of func(cell string) style) {
	if i := slices.Index(t.headings, heading); i >= 0 {
		t.styles[i] = of
	}
}

// insert adds a column before another one, as the one that is needed least.
func (t *table) insert(heading, before string) {
	i := slices.Index(t.headings, before)
	t.headings = slices.Insert(t.headings, i, heading)
	t.rows[0] = slices.Clone(t.headings)
	t.spare = slices.Insert(t.spare, 0, heading)
}

// row adds a line.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	t.rows = append(t.rows, cells)
}

// stream prints a line at once, on a terminal that may have another width by now.
func (t *table) stream(cells ...string) {
	t.screen = screenOf(t.out)
	t.row(cells...)
	t.flush()
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
	widths, short := t.fit()
	for i, row := range t.rows {
		shown := slices.Clone(row)
		for column, of := range short {
			if i < t.heads {
				shown[column] = row[column][:min(len(row[column]), widths[column])]
			} else {
				shown[column] = of(row[column])
			}
		}
		for lines := t.wrapped(shown, widths); len(lines) > 0; lines = lines[1:] {
			t.line(lines[0], widths, func(column int) style { return t.styleOf(i, column, row[column]) })
		}
	}
	t.rows, t.heads = nil, 0
}

// line prints one line of a row.
func (t *table) line(cells []string, widths []int, styleOf func(column int) style) {
	var line strings.Builder
	for column, cell := range cells {
		if widths[column] == 0 {
			continue // left out
		}
		cell = t.cut(cell, column, widths[column])
		line.WriteString(t.screen.paint(cell, styleOf(column)))
		if column < len(cells)-1 {
			line.WriteString(strings.Repeat(" ", max(widths[column]-utf8.RuneCountInString(cell), 0)) + gap)
		}
	}
	fmt.Fprintln(t.out, strings.TrimRight(line.String(), " "))
}

// cut makes a cell as long as it may be. Names are cut in the middle, as their ends
// tell them apart.
func (t *table) cut(cell string, column, width int) string {
	switch {
	case t.screen.width == 0:
		return cell
	case column < t.whole:
		return elide(cell, width)
	}
	return shorten(cell, width)
}

// wrapped are the lines that a row takes.
func (t *table) wrapped(row []string, widths []int) [][]string {
	last := len(row) - 1
	if !t.wraps || t.screen.width == 0 || last < 0 || widths[last] == 0 {
		return [][]string{row}
	}
	var lines [][]string
	for _, text := range wrap(row[last], widths[last]) {
		if len(lines) > 0 {
			row = make([]string, last+1)
		}
		row[last] = text
		lines = append(lines, row)
	}
	return lines
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

const (
	// least is the width below which a column is not made narrower as long as there are
	// others to leave out: that of the longest state, and of all numbers, sizes and ages.
	least = 11
	// leastText is that of a text that is wrapped, and leastReason of one that has to share
	// a narrow screen.
	leastText   = 32
	leastReason = 16
	// leastEver is below which nothing is made narrower.
	leastEver = 4
)

// fit gives the widths of the columns, 0 for those that are left out, and what is
// written short. Where the screen is narrower than the table, that comes first, then
// columns are cut, the widest first, and where that is not enough, spare ones are left
// out before. At last even names are cut.
func (t *table) fit() (widths []int, short map[int]func(string) string) {
	widths = t.widths()
	if t.screen.width == 0 || len(t.headings) == 0 {
		return widths, nil // a listing by name is read line by line
	}
	last := len(widths) - 1
	if t.wraps {
		widths[last] = min(widths[last], t.leastText)
	}
	short = map[int]func(string) string{}
	for _, form := range t.short {
		if total(widths) <= t.screen.width {
			break
		}
		i := slices.Index(t.headings, form.heading)
		widths[i], short[i] = form.width, form.of
	}
	for _, heading := range t.spare {
		if t.narrowest(widths) <= t.screen.width {
			break
		}
		widths[slices.Index(t.headings, heading)] = 0
	}
	narrow(widths, t.screen.width, t.whole, t.leastOf)
	narrow(widths, t.screen.width, 0, func(int) int { return leastEver })
	if t.wraps && widths[last] > 0 {
		widths[last] += max(t.screen.width-total(widths), 0)
	}
	return widths, short
}

// leastOf is how narrow a column may become as long as others can be left out.
func (t *table) leastOf(column int) int {
	if t.wraps && column == len(t.headings)-1 {
		return t.leastText
	}
	return least
}

// narrow cuts columns, from the one given, the widest first, until they fit.
func narrow(widths []int, within, from int, least func(column int) int) {
	for total(widths) > within {
		widest := -1
		for i := from; i < len(widths); i++ {
			if widths[i] > least(i) && (widest < 0 || widths[i] >= widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// widths are those that the columns take of themselves.
func (t *table) widths() []int {
	if t.fixed != nil {
		return slices.Clone(t.fixed)
	}
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
		cut[i] = min(cut[i], t.leastOf(i))
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

// zoned is a moment in the local time zone, which it names; empty for none.
func zoned(at *timestamppb.Timestamp) string {
	if at == nil {
		return ""
	}
	return clock(at) + at.AsTime().Local().Format(" MST")
}

// shortTime leaves the day of a moment out.
var shortTime = shortForm{"TIME", 8, func(cell string) string {
	_, time, there := strings.Cut(cell, " ")
	if !there {
		return cell
	}
	return time
}}

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
