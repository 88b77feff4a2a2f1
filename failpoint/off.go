//go:build !failpoints

package failpoint

// Here passes a step that cannot fail.
func Here(string) {}

// Error passes a step that can fail, and returns its error.
func Error(string) error { return nil }
