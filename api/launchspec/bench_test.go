package launchspec_test

import (
	"testing"

	"github.com/purserd/purser/api/launchspec"
)

// BenchmarkValidate is on the path of every launch.
func BenchmarkValidate(b *testing.B) {
	s := mustParse(b, documentedExample(b)).Specs[0]
	for b.Loop() {
		if err := launchspec.Validate(s); err != nil {
			b.Fatal(err)
		}
	}
}
