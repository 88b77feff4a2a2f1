package launchspec_test

import (
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserd/purser/api/launchspec"
)

func checkMessageRules(t *testing.T, md protoreflect.MessageDescriptor) {
	t.Helper()
	if err := launchspec.Check(dynamicpb.NewMessage(md)); err != nil && strings.Contains(err.Error(), "(rules)") {
		t.Errorf("%s: %v", md.FullName(), err)
	}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		rules, err := protovalidate.ResolveFieldRules(fd)
		if err != nil {
			t.Errorf("%s: %v", fd.FullName(), err)
		}
		for _, pattern := range patternsIn(rules) {
			if !launchspec.HasWords(pattern) {
				t.Errorf("%s: no words for the pattern %s", fd.FullName(), pattern)
			}
		}
	}
}

// patternsIn collects the regular expressions of a field, its items, its keys
// and its values.
func patternsIn(rules *validate.FieldRules) []string {
	if rules == nil {
		return nil
	}
	var found []string
	if pattern := rules.GetString().GetPattern(); pattern != "" {
		found = append(found, pattern)
	}
	found = append(found, patternsIn(rules.GetRepeated().GetItems())...)
	found = append(found, patternsIn(rules.GetMap().GetKeys())...)
	return append(found, patternsIn(rules.GetMap().GetValues())...)
}
