package config

import (
	"reflect"
	"strings"

	"github.com/purserd/purser/api/launchspec"
)

// meant asks whether an unknown key is a known one misspelt; it is empty when
// none comes near.
func meant(key []string) string {
	section := reflect.TypeFor[Config]()
	for _, name := range key[:len(key)-1] {
		if section = below(section, name); section == nil {
			return ""
		}
	}
	if near, ok := launchspec.Nearest(key[len(key)-1], keysOf(section)); ok {
		return "; did you mean " + strings.Join(append(key[:len(key)-1:len(key)-1], near), ".") + "?"
	}
	return ""
}

// below is the type of the section under a key; nil when there is none.
func below(section reflect.Type, key string) reflect.Type {
	if section.Kind() == reflect.Map {
		return section.Elem()
	}
	if section.Kind() != reflect.Struct {
		return nil
	}
	for i := range section.NumField() {
		if field := section.Field(i); field.Tag.Get("toml") == key {
			return field.Type
		}
	}
	return nil
}

func keysOf(section reflect.Type) []string {
	if section.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for i := range section.NumField() {
		keys = append(keys, section.Field(i).Tag.Get("toml"))
	}
	return keys
}
