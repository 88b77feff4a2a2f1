// Package off is not on the injection path, and has plain values.
package off

import (
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
)

func reveals(v inject.Value) int {
	plain := v.Reveal() // leak: off the injection path
	return len(plain)
}

func lists(environ inject.Environ) int {
	return len(environ.Secret()) // leak: off the injection path
}

func ranges(environ inject.Environ) (n int) {
	for range environ.Secret() { // leak: off the injection path
		n++
	}
	return n
}

type secret interface{ Secret() []string }

func unknown(environ secret) int {
	return len(environ.Secret()) // leak: off the injection path
}

func takes(way func() []byte) { _ = way }

func passes(v inject.Value) {
	takes(v.Reveal) // leak: off the injection path
}

func asks(request *purserv1.PutRequest) int {
	return len(request.GetData()) // leak: off the injection path
}
