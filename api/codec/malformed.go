package codec

import (
	"errors"
	"regexp"
	"strings"
)

var (
	jsonPlace = regexp.MustCompile(`\(line (\d+:\d+)\): (.*)`)
	// speakable are the errors that name a field, up to where the library
	// quotes its value.
	speakable = regexp.MustCompile(`^(unknown field|duplicate field|duplicate map key) "(\\.|[^"\\])*"|^invalid value for \S+ (field \S+|key)`)
)

// malformedJSON says what is wrong with a request, and where. The library's
// own words quote the value that does not fit, which may be a secret's: one
// that somebody sent as it is instead of in base64.
func malformedJSON(err error) error {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ") // a random choice of the library
	if strings.Contains(text, "unexpected EOF") {
		return errors.New("the JSON ends too early")
	}
	place := jsonPlace.FindStringSubmatch(text)
	if place == nil {
		return errors.New("the JSON does not fit the message")
	}
	what := strings.TrimSuffix(speakable.FindString(place[2]), ":")
	switch {
	case what == "":
		what = "this is not JSON, or not of the kind that belongs here"
	case strings.HasPrefix(what, "invalid value for bytes"):
		what += ", which is written in base64"
	}
	return errors.New("line " + place[1] + ": " + what)
}
