package launchspec

import (
	"fmt"
	"slices"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// culprits are the fields that a rule over a whole message is about: the first
// one that is set is where the mistake shows.
var culprits = map[string][]string{
	"job.fields":       {"timeout", "retries", "ttl_after_finished"},
	"service.restart":  {"restart"},
	"service.rotation": {"rotation"},
	"mount.tmpfs":      {"size", "source"},
	"mount.path":       {"source"},
	"mount.volume":     {"source"},
}

// identities are the fields that may not repeat within a list.
var identities = map[string]string{
	"functions.unique": "function",
	"secrets.unique":   "name",
	"mounts.unique":    "target",
}

// refine narrows a violation that protovalidate reports for a whole message or
// list down to the field at fault. It returns false when there is none: items
// without any name are not twice the same, they lack a required field.
func refine(v *violation, m protoreflect.Message) bool {
	if fields, ok := culprits[v.rule]; ok {
		refineToField(v, m, fields)
	}
	if v.rule == "message.oneof" {
		refineToAlternative(v, m)
	}
	if field, ok := identities[v.rule]; ok {
		return refineToRepeated(v, m, field)
	}
	return true
}

func refineToField(v *violation, m protoreflect.Message, fields []string) {
	owner, ok := at(m, v.path).Interface().(protoreflect.Message)
	if !ok {
		return
	}
	for _, name := range fields {
		fd := owner.Descriptor().Fields().ByName(protoreflect.Name(name))
		if fd != nil && owner.Has(fd) {
			v.path = v.path.join(name)
			return
		}
	}
}

// refineToAlternative says of a message that wants one of several fields which are
// missing, or which is one too many.
func refineToAlternative(v *violation, m protoreflect.Message) {
	owner, ok := at(m, v.path).Interface().(protoreflect.Message)
	if !ok {
		return
	}
	for _, names := range alternatives(owner.Descriptor()) {
		given := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return !owner.Has(owner.Descriptor().Fields().ByName(protoreflect.Name(name)))
		})
		if len(given) == 0 {
			v.message = "must have one of " + enumerate(names, "and")
		} else if len(given) > 1 {
			v.message = fmt.Sprintf("must not be given beside %s: only one of %s can be", given[0], enumerate(names, "and"))
			v.path = v.path.join(given[1])
		}
	}
}

// alternatives are the lists of fields of which a message may have one each.
func alternatives(md protoreflect.MessageDescriptor) (all [][]string) {
	rules, err := protovalidate.ResolveMessageRules(md)
	if err != nil {
		return nil
	}
	for _, rule := range rules.GetOneof() {
		all = append(all, rule.GetFields())
	}
	return all
}

func refineToRepeated(v *violation, m protoreflect.Message, field string) bool {
	list, ok := at(m, v.path).Interface().(protoreflect.List)
	if !ok {
		return true
	}
	seen := map[string]int{}
	for i := range list.Len() {
		name := fieldOf(list.Get(i), field).String()
		first, repeated := seen[name]
		switch {
		case name == "":
		case repeated:
			v.message = "repeats"
			v.other = v.path.join(first, field)
			v.path = v.path.join(i, field)
			return true
		default:
			seen[name] = i
		}
	}
	return false
}
