package main

import (
	"os"
	"strings"
	"time"
)

// failure is an error in words. errors and fmt are left out for their size.
type failure string

func (f failure) Error() string { return string(f) }

func wrap(doing string, err error) error { return failure(doing + ": " + err.Error()) }

// fail ends the program in the way of the runtimes: the reason goes to the file
// given by --log, where containerd looks for it, and to standard error.
func (w wrapper) fail(err error) {
	message := "purser-oci: " + err.Error()
	if path, ok := w.global("log"); ok && path != "" {
		format, _ := w.global("log-format")
		if f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.WriteString(logLine(format, message, time.Now()))
			_ = f.Close()
		}
	}
	_, _ = os.Stderr.WriteString(message + "\n")
	os.Exit(1)
}

// logLine is what runc writes with the same settings.
func logLine(format, message string, at time.Time) string {
	stamp := at.UTC().Format(time.RFC3339)
	if format == "json" {
		return `{"level":"error","msg":` + quote(message) + `,"time":"` + stamp + `"}` + "\n"
	}
	return `time="` + stamp + `" level=error msg=` + quote(message) + "\n"
}

// quote writes a JSON string, in ASCII but for what is valid UTF-8 already.
func quote(s string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s { // what is not UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20:
			b.WriteString(`\u00`)
			b.WriteByte(hex[r>>4])
			b.WriteByte(hex[r&15])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
