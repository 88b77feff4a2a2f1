package inject

import "strings"

// minCopy is the least number of bytes of a value that is looked for elsewhere:
// shorter ones are found where they mean something else.
const minCopy = 16

// Copied returns the secret and key whose value a text contains; found is false for
// none. Only values of 16 bytes and more are looked for.
func (r *Resolution) Copied(text string) (secret, key string, found bool) {
	for _, s := range r.Secrets {
		for _, v := range s.Vars {
			v.Value.use(func(content []byte) {
				found = len(content) >= minCopy && strings.Contains(text, string(content))
			})
			if found {
				return s.Name, v.Key, true
			}
		}
	}
	return "", "", false
}
