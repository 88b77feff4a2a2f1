package dev

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// plainLines is how many lines that are no log records, such as a panic's
// trace, are shown; the file has them all.
const plainLines = 20

// harmless are beginnings of errors that containerd logs when all is well: at
// the end of a shim that it has adopted, and of a client that was quicker.
var harmless = []string{"copy shim log", "failed sending message on channel"}

// childLog keeps what a child writes in a file, and shows its errors.
type childLog struct {
	name string
	file *os.File
	say  func(format string, args ...any)

	mu      sync.Mutex
	partial []byte
	last    string
	plain   int
}

// openLog starts a new file; the one of the run before is kept as .old.
func openLog(path, name string, say func(string, ...any)) (*childLog, error) {
	if err := os.Rename(path, path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keeping the log of the last run: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a log: %w", err)
	}
	return &childLog{name: name, file: file, say: say}, nil
}

// Write never fails: a full disk must not end the child.
func (l *childLog) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.file.Write(data)
	l.partial = append(l.partial, data...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			break
		}
		l.show(string(line))
		l.partial = rest
	}
	l.partial = bytes.Clone(l.partial)
	return len(data), nil
}

func (l *childLog) Close() error { return l.file.Close() }

// show tells the user of an error, once while it repeats itself.
func (l *childLog) show(line string) {
	text, record := summary(line)
	if !record {
		if l.plain++; l.plain > plainLines {
			return
		}
		text = line
	}
	if text == "" || text == l.last {
		return
	}
	l.last = text
	l.say("%s: %s", l.name, text)
}

// summary is the message of a log record that is an error, and empty of any
// other. A line that is no record is not understood.
func summary(line string) (text string, record bool) {
	if strings.TrimSpace(line) == "" {
		return "", true
	}
	if strings.HasPrefix(line, "{") {
		return jsonSummary(line)
	}
	return logfmtSummary(line)
}

// jsonSummary reads what log/slog writes: the agent's records.
func jsonSummary(line string) (string, bool) {
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil || fields["level"] == nil {
		return "", false
	}
	if fields["level"] != "ERROR" {
		return "", true
	}
	text := fmt.Sprint(fields["msg"])
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key != "time" && key != "level" && key != "msg" && key != "source" {
			text += fmt.Sprintf(" %s=%v", key, fields[key])
		}
	}
	return text, true
}

var logfmtField = regexp.MustCompile(`(?:^| )(level|msg|error)=("(?:[^"\\]|\\.)*"|\S+)`)

// logfmtSummary reads what logrus writes: containerd's records.
func logfmtSummary(line string) (string, bool) {
	fields := map[string]string{}
	for _, match := range logfmtField.FindAllStringSubmatch(line, -1) {
		fields[match[1]] = unquote(match[2])
	}
	switch fields["level"] {
	case "":
		return "", false
	case "error", "fatal", "panic":
	default:
		return "", true
	}
	for _, start := range harmless {
		if strings.HasPrefix(fields["msg"], start) {
			return "", true
		}
	}
	if fields["error"] != "" {
		return fields["msg"] + ": " + fields["error"], true
	}
	return fields["msg"], true
}

func unquote(text string) string {
	if plain, err := strconv.Unquote(text); err == nil {
		return plain
	}
	return text
}
