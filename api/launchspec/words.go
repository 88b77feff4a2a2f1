package launchspec

import (
	"regexp"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The regular expressions of the .proto files.
const (
	namePattern     = `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`
	idPattern       = `^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`
	keyPattern      = `^[A-Za-z_][A-Za-z0-9_]*$`
	deliveryPattern = `^\.?[A-Za-z0-9_-][A-Za-z0-9._-]*$`
	durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	periodPattern   = `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`
	quantityPattern = `^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$`
	signalPattern   = `^([A-Za-z][A-Za-z0-9+-]*|[0-9]{1,2})$`
	modePattern     = `^0[0-7]{3}$`
	dirModePattern  = `^0?[0-7]{3,4}$`
	platformPattern = `^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$`
	hostPattern     = `^[A-Za-z0-9._:\[\]-]+$`
	devicePattern   = `^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?=[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$`
	headerPattern   = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
	userPattern     = `^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`
)

// patterns puts them in words. A test holds that none is missing.
var patterns = map[string]string{
	namePattern:     "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit",
	idPattern:       "must be letters, digits, '.', '_' and '-', in parts separated by '/' that each start with a letter or digit",
	keyPattern:      "must be letters, digits and '_', the first no digit",
	deliveryPattern: "must be letters, digits, '_', '.' and '-', with one '.' at most to begin with",
	durationPattern: "must be a duration such as 500ms, 30s or 1h30m",
	periodPattern:   "must be a duration such as 500ms, 30s or 1h30m, or 0",
	quantityPattern: "must be a number of bytes such as 256Mi, 1Gi or 500M",
	signalPattern:   "must be a signal's name or number, such as SIGTERM, TERM or 15",
	modePattern:     "must be permissions in octal with a 0 before them, in quotes, such as \"0400\"",
	dirModePattern:  "must be permissions in octal, such as 0755 or 1777",
	platformPattern: "must be os/architecture, such as linux/arm64 or linux/arm/v7",
	hostPattern:     "must be a host, with a port if need be, such as shop.example or shop.example:8080",
	devicePattern:   "must be the name of a CDI device, vendor/class=name, such as nvidia.com/gpu=0; a path in /dev is none",
	headerPattern:   "must be that of a header, such as X-Probe",
	userPattern:     "must be a user or user:group, each a name or number, such as app, 1000 or 1000:1000",
}

var compiled = func() map[string]*regexp.Regexp {
	all := map[string]*regexp.Regexp{}
	for pattern := range patterns {
		all[pattern] = regexp.MustCompile(pattern)
	}
	return all
}()

// matches tells whether the .proto has let a value pass.
func matches(pattern, value string) bool {
	return compiled[pattern].MatchString(value)
}

// words says what a broken rule wants, as the rest of a sentence that starts
// with the field.
func words(v *protovalidate.Violation) string {
	message := strings.TrimPrefix(v.Proto.GetMessage(), "value ")
	switch v.Proto.GetRuleId() {
	case "string.in":
		message = "must be " + choice(v.RuleValue)
	case "string.pattern":
		if known, ok := patterns[v.RuleValue.String()]; ok {
			message = known
		}
	case "string.prefix":
		if v.RuleValue.String() == "/" {
			message = "must be an absolute path"
		}
	case "repeated.unique":
		message = "must not repeat an item"
	}
	if v.Proto.GetForKey() && strings.HasPrefix(message, "must ") {
		message = "the name " + message
	}
	return message
}

// choice lists the values of an "in" rule: "none or host".
func choice(v protoreflect.Value) string {
	list, ok := v.Interface().(protoreflect.List)
	if !ok {
		return "one of the values in the documentation"
	}
	var values []string
	for i := range list.Len() {
		if s := list.Get(i).String(); s != "" {
			values = append(values, s)
		}
	}
	return enumerate(values, "or")
}

// enumerate joins words as a sentence does: a, b or c.
func enumerate(values []string, conjunction string) string {
	last := len(values) - 1
	if last < 1 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:last], ", ") + " " + conjunction + " " + values[last]
}
