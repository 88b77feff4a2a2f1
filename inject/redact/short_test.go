package redact

import "testing"

// What is too short to be a secret is left in the output: to replace it would ruin words
// that it is in by chance, and who reads DE[REDACTED]RY knows both the value and no more
// what was said.
//
// Complaint this answers: "DE[REDACTED]RY", where the value is LIVE.
func TestShortValueDoesNotRuinLogs(t *testing.T) {
	m := Compile([]Value{value("s", "LIVE"), value("t", "1"), value("u", "true"), value("v", "admin"), value("w", "")})
	for _, text := range []string{
		"DELIVERY of order 1 was admin-istered: true\n",
		"LIVE\n",
		"GET /admin?dry_run=true 200 11ms\n",
	} {
		if got := redacted(m, text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	// One byte more, and it counts as one, within words as well.
	if got, want := redacted(Compile([]Value{value("s", "DELIVE")}), "DELIVERY\n"), "[secret:s/K]RY\n"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}
