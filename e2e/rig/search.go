package rig

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
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

// FormsOn returns the forms of a value that are anywhere on a device, or in a file.
func FormsOn(t testing.TB, device, value string) []string {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wanted := Forms(value)
	found := map[string]bool{}
	const overlap = 4096
	block := make([]byte, overlap+(8<<20))
	kept := 0
	for {
		n, err := f.Read(block[kept:])
		data := block[:kept+n]
		for name, form := range wanted {
			found[name] = found[name] || bytes.Contains(data, form)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kept = copy(block, data[max(0, len(data)-overlap):])
	}
	maps.DeleteFunc(found, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(found))
}
