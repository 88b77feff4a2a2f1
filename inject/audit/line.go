package audit

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// maxLine is far above what a record takes. JSON writes a byte of text as six at
// most: 6*(8 texts + 2 + 64 names of 256 bytes + 8 KiB).
const maxLine = 256 << 10

const (
	macField = `,"mac":"`
	macEnd   = `"}`
	// suffixSize is that of the end of a line, from macField on.
	suffixSize = len(macField) + 2*sha256.Size + len(macEnd)
)

var (
	errForm = errors.New("it is no record")
	errMAC  = errors.New("it was changed, or written under another key")
)

// key makes and checks MACs.
type key [32]byte

// mac of a body, in hexadecimal. It is compared as it stands, so that no other
// spelling of it passes.
func (k key) mac(body []byte) string {
	h := hmac.New(sha256.New, k[:])
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// seal encodes a value as a JSON object that ends with the MAC of what is before.
func (k key) seal(value any) (line []byte, mac string, err error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, "", fmt.Errorf("encoding a record: %w", err)
	}
	body = bytes.TrimSuffix(body, []byte("}"))
	mac = k.mac(body)
	return append(append(append(body, macField...), mac...), macEnd...), mac, nil
}

// open checks the MAC before it looks at the rest.
func (k key) open(line []byte, into any) (mac string, err error) {
	body, mac, ok := split(line)
	if !ok {
		return "", errForm
	}
	if !hmac.Equal([]byte(mac), []byte(k.mac(body))) {
		return "", errMAC
	}
	return mac, decode(body, into)
}

// split parts a line into what the MAC is of, and the MAC.
func split(line []byte) (body []byte, mac string, ok bool) {
	at := len(line) - suffixSize
	if at < 0 || !bytes.HasPrefix(line[at:], []byte(macField)) || !bytes.HasSuffix(line, []byte(macEnd)) {
		return nil, "", false
	}
	return line[:at], string(line[at+len(macField) : len(line)-len(macEnd)]), true
}

// parse reads a record without knowing whether it is authentic.
func parse(line []byte) (Record, error) {
	body, _, ok := split(line)
	if !ok {
		return Record{}, errForm
	}
	var r Record
	err := decode(body, &r)
	return r, err
}

func decode(body []byte, into any) error {
	decoder := json.NewDecoder(io.MultiReader(bytes.NewReader(body), bytes.NewReader([]byte("}"))))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return errForm
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errForm
	}
	return nil
}

// line is one line of a file.
type line struct {
	text   []byte // without the newline; nil when it is too long to be a record
	number int    // from 1
	start  int64
	end    int64 // behind the newline
	whole  bool  // ends with a newline
}

// eachLine reads lines; text is good until the next one.
func eachLine(r io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		buffer := bufio.NewReaderSize(r, maxLine)
		var at line
		for {
			text, err := buffer.ReadSlice('\n')
			long := errors.Is(err, bufio.ErrBufferFull)
			at = line{text: text, number: at.number + 1, start: at.end, end: at.end + int64(len(text)), whole: err == nil}
			for errors.Is(err, bufio.ErrBufferFull) {
				text, err = buffer.ReadSlice('\n')
				at.end, at.whole = at.end+int64(len(text)), err == nil
			}
			if err != nil && !errors.Is(err, io.EOF) {
				yield(line{}, err)
				return
			}
			if at.text = bytes.TrimSuffix(at.text, []byte("\n")); long {
				at.text = nil
			}
			if at.end > at.start && !yield(at, nil) || err != nil {
				return
			}
		}
	}
}
