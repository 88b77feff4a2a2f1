// Flood writes numbered lines to its standard output, at a rate and for a time, and
// then says on standard error how many there were and how long the longest write had
// to wait.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	rate := flag.Float64("rate", 50, "megabytes a second; without a limit when 0")
	lasts := flag.Duration("for", time.Second, "how long it lasts")
	flag.Parse()
	began, longest := time.Now(), time.Duration(0)
	filling := strings.Repeat("x", 87)
	var batch []byte
	line, written := 0, 0
	for time.Since(began) < *lasts {
		batch = batch[:0]
		for range 100 {
			batch = fmt.Appendf(batch, "%012d %s\n", line, filling)
			line++
		}
		before := time.Now()
		if _, err := os.Stdout.Write(batch); err != nil {
			os.Exit(1)
		}
		longest = max(longest, time.Since(before))
		written += len(batch)
		if *rate > 0 {
			due := time.Duration(float64(written) / *rate / 1e6 * float64(time.Second))
			time.Sleep(due - time.Since(began))
		}
	}
	fmt.Fprintf(os.Stderr, "%d lines, waited %d ms\n", line, longest.Milliseconds())
}
