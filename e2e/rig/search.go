package rig

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Forms are the ways in which a value may have been written.
func Forms(value string) map[string][]byte {
	all := map[string][]byte{"plain": []byte(value), "hex": []byte(hex.EncodeToString([]byte(value))),
		"upper-case hex": []byte(strings.ToUpper(hex.EncodeToString([]byte(value))))}
	var percent strings.Builder
	for _, b := range []byte(value) {
		fmt.Fprintf(&percent, "%%%02X", b)
	}
	all["percent"] = []byte(percent.String())
	all["percent of what is special"] = []byte(url.QueryEscape(value))
	quoted, _ := json.Marshal(value) // of a string, never an error
	all["JSON"] = quoted[1 : len(quoted)-1]
	for shift := range 3 {
		// What precedes a value moves it against the groups of three bytes; what
		// depends on the neighbours is cut off.
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64 of URLs": base64.URLEncoding} {
			encoded := encoding.EncodeToString(append(make([]byte, shift), value...))
			start, end := (shift*8+5)/6, (len(value)+shift)*8/6
			all[fmt.Sprintf("%s at %d", name, shift)] = []byte(encoded[start:end])
		}
	}
	return all
}

// FormsOn returns the forms of a value that are anywhere in a file, such as that of a loop
// device. Holes, which nobody has written to, are not read.
func FormsOn(t testing.TB, device, value string) []string {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wanted := Forms(value)
	found := map[string]bool{}
	for at := int64(0); err == nil; {
		var part *io.SectionReader
		if part, at, err = written(f, at); err == nil {
			err = search(part, wanted, found)
		}
	}
	if err != io.EOF {
		t.Fatalf("searching %s: %v", device, err)
	}
	return slices.Sorted(maps.Keys(found))
}

// written is what comes next in a file, from a place on, that is no hole, and where it
// ends; io.EOF if there is nothing more.
func written(f *os.File, from int64) (part *io.SectionReader, end int64, err error) {
	start, err := f.Seek(from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return nil, 0, io.EOF
	} else if err != nil {
		return nil, 0, err
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	return io.NewSectionReader(f, start, end-start), end, err
}

// search adds to what is found the names of the forms that are in a part of a file.
func search(part io.Reader, wanted map[string][]byte, found map[string]bool) error {
	const overlap = 4096
	block := make([]byte, overlap+(8<<20))
	kept := 0
	for {
		n, err := part.Read(block[kept:])
		data := block[:kept+n]
		for name, form := range wanted {
			if bytes.Contains(data, form) {
				found[name] = true
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		kept = copy(block, data[max(0, len(data)-overlap):])
	}
}
