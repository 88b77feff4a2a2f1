// Package on is on the injection path, and leaks nothing.
package on

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/handover"
)

// Take makes Values of what came in.
func Take(request *purserv1.PutRequest) (map[string]inject.Value, error) {
	data := map[string]inject.Value{}
	for key, value := range request.GetData() {
		if !utf8.Valid(value) {
			return nil, fmt.Errorf("key %s of secret %s is not UTF-8", key, request.GetName())
		}
		data[key] = inject.NewValue(value)
	}
	slog.Info("taken", "secret", request.GetName(), "values", data)
	return data, nil
}

// Upper returns what redacts itself again.
func Upper(v inject.Value) inject.Value {
	return inject.NewValue(bytes.ToUpper(v.Reveal()))
}

// Deliver hands the environment over.
func Deliver(environ inject.Environ, r handover.Installed) handover.Complete {
	all := slices.DeleteFunc(environ.Secret(), func(v string) bool { return strings.HasPrefix(v, "X") })
	slog.Info("handing over", "count", len(all), "public", environ.Public())
	return handover.Spec(all, r)
}

// Write puts it where it may be.
func Write(file *os.File, v inject.Value) error {
	plain, err := json.Marshal(string(v.Reveal()))
	if err != nil {
		return errors.New("encoding it failed")
	}
	defer clear(plain)
	if _, err := file.Write(plain); err != nil {
		return fmt.Errorf("writing %d bytes: %w", len(plain), err)
	}
	return nil
}

// Begins compares beginnings. A byte order keeps nothing, though it is a variable.
func Begins(v inject.Value, text []byte) bool {
	return binary.LittleEndian.Uint64(v.Reveal()) == binary.LittleEndian.Uint64(text)
}

type holder struct{ plain []byte }

// Hold keeps it where nobody else sees it.
func Hold(v inject.Value) int {
	h := holder{plain: v.Reveal()}
	return h.size()
}

func (h holder) size() int { return len(h.plain) }
