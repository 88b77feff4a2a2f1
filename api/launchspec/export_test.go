package launchspec

// HasWords tells whether a regular expression of the .proto is put in words.
func HasWords(pattern string) bool {
	_, ok := patterns[pattern]
	return ok
}
