package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// fieldChange is a field of a launch spec that is another now. What is not there is
// empty.
type fieldChange struct{ field, old, new string }

// specChanges are the fields in which two specs differ, in the order of the spec.
func specChanges(old, now *purserv1.LaunchSpec) []fieldChange {
	before, after := leavesOf(old), leavesOf(now)
	var changes []fieldChange
	for _, l := range merged(before, after) {
		if was, is := before.text[l], after.text[l]; was != is {
			changes = append(changes, fieldChange{l, was, is})
		}
	}
	return changes
}

// leaves are the fields of a message that have values, by their paths.
type leaves struct {
	order []string
	text  map[string]string
}

func leavesOf(spec *purserv1.LaunchSpec) *leaves {
	l := &leaves{text: map[string]string{}}
	l.message("", spec.ProtoReflect())
	return l
}

// merged is the order of two: what only the first has stands behind what it
// stands behind there.
func merged(first, second *leaves) []string {
	order := slices.Clone(second.order)
	at := 0
	for _, path := range first.order {
		if i := slices.Index(order, path); i >= 0 {
			at = i + 1
			continue
		}
		order = slices.Insert(order, at, path)
		at++
	}
	return order
}

func (l *leaves) add(path, text string) {
	l.order = append(l.order, path)
	l.text[path] = text
}

func (l *leaves) message(prefix string, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		path, value := prefix+string(fd.Name()), m.Get(fd)
		switch {
		case fd.IsMap():
			l.entries(path, value.Map())
		case fd.IsList() && fd.Message() != nil:
			l.items(path, value.List())
		case fd.IsList():
			l.add(path, listText(value.List()))
		case fd.Message() != nil:
			l.group(path, value.Message())
		default:
			l.add(path, valueText(value))
		}
	}
}

// group adds a message. One that says nothing is there all the same.
func (l *leaves) group(path string, m protoreflect.Message) {
	before := len(l.order)
	l.message(path+".", m)
	if len(l.order) == before {
		l.add(path, "{}")
	}
}

func (l *leaves) entries(path string, entries protoreflect.Map) {
	var keys []string
	entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, k := range keys {
		l.add(path+"."+k, valueText(entries.Get(protoreflect.ValueOfString(k).MapKey())))
	}
}

// items adds the messages of a list by what identifies them, so that one before them
// that comes or goes changes nothing about them.
func (l *leaves) items(path string, list protoreflect.List) {
	for i := range list.Len() {
		m := list.Get(i).Message()
		name := strconv.Itoa(i)
		for _, identity := range []protoreflect.Name{"name", "target"} {
			if fd := m.Descriptor().Fields().ByName(identity); fd != nil && m.Has(fd) {
				name = m.Get(fd).String()
				break
			}
		}
		l.group(fmt.Sprintf("%s[%s]", path, name), m)
	}
}

func listText(list protoreflect.List) string {
	var items []string
	for i := range list.Len() {
		items = append(items, valueText(list.Get(i)))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// valueText is a value as a line can show it: in quotes when it would be taken for
// something else, or would not be seen.
func valueText(v protoreflect.Value) string {
	text := v.String()
	odd := func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(` ,[]"`, r) }
	if text == "" || strings.ContainsFunc(text, odd) {
		return strconv.Quote(text)
	}
	return text
}

// shown is how much of a value is shown, in characters.
const shown = 60

// clipped are two values, cut to where they differ.
func (c fieldChange) clipped() (old, now string) {
	was, is := []rune(c.old), []rune(c.new)
	same := 0
	for same < min(len(was), len(is)) && was[same] == is[same] {
		same++
	}
	from := 0
	if max(len(was), len(is)) > shown && same > shown/4 {
		from = same - shown/4
	}
	return clip(was, from), clip(is, from)
}

func clip(text []rune, from int) string {
	if len(text) == 0 {
		return "(none)"
	}
	before, after := "", ""
	if from > 0 {
		before, text = "…", text[from:]
	}
	if len(text) > shown {
		text, after = text[:shown], "…"
	}
	return before + string(text) + after
}
