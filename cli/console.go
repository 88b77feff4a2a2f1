package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// console is what several goroutines print on, line by line.
type console struct {
	out, err io.Writer
	screen   screen

	mu sync.Mutex
	// functions are in the order in which they were named, which gives each its style.
	functions []string
	width     int
}

func (s *session) newConsole() *console {
	return &console{out: s.out, err: s.err, screen: screenOf(s.out)}
}

// name makes room for the names of functions.
func (c *console) name(functions ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range functions {
		c.index(f)
	}
}

// index is a function's place. The caller holds mu.
func (c *console) index(function string) int {
	i := slices.Index(c.functions, function)
	if i < 0 {
		i = len(c.functions)
		c.functions = append(c.functions, function)
		c.width = max(c.width, len(function))
	}
	return i
}

// prefix is what stands before a line that a function wrote.
func (c *console) prefix(function string) string { return c.before(function, "|") }

func (c *console) before(function, sign string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.index(function)
	text := fmt.Sprintf("%-*s %s", c.width, function, sign)
	return c.screen.paint(text, functionStyles[i%len(functionStyles)]) + " "
}

// state tells what became of a function.
func (c *console) state(function, text string, in style) {
	c.write("stdout", []byte(c.before(function, ":")+c.screen.paint(text, in)+"\n"))
}

// say prints lines of purser's own.
func (c *console) say(format string, args ...any) {
	c.write("stdout", fmt.Appendf(nil, format+"\n", args...))
}

// complain prints lines that tell of a mistake.
func (c *console) complain(lines []string) {
	c.write("stderr", []byte(strings.Join(lines, "\n")+"\n"))
}

// write writes whole lines. That they cannot be written ends the process by itself:
// nobody reads them any more.
func (c *console) write(stream string, lines []byte) {
	if len(lines) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = writeStream(stream, lines, c.out, c.err)
}
