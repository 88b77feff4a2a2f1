package redact_test

import (
	"fmt"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/redact"
)

func Example() {
	password := inject.NewValue([]byte("hunter22"))
	m := redact.Compile([]redact.Value{{Secret: "db", Key: "PASSWORD", Reveal: password.Reveal}})
	s := m.Stream()

	var out []byte
	for _, chunk := range []string{"connecting with hun", "ter22\nAuthorization: Basic ZGI6aHVudGVyMjI=\n", "password: hunter2"} {
		out = s.Append(out, []byte(chunk))
	}
	fmt.Printf("%s\n", s.Close(out))
	// Output:
	// connecting with [secret:db/PASSWORD]
	// Authorization: Basic ZGI6[secret:db/PASSWORD]
	// password: [partial]
}
