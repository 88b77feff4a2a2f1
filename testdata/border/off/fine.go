// Package off is not on the injection path, and has no plain values.
package off

import (
	"context"
	"fmt"
	"log/slog"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
)

// Resolve passes Values on.
func Resolve(ctx context.Context, source inject.Source, refs []*purserv1.SecretRef) (inject.Environ, error) {
	resolution, err := inject.Resolve(ctx, source, inject.Request{Environment: "dev", Refs: refs})
	if err != nil {
		return inject.Environ{}, fmt.Errorf("resolving: %w", err)
	}
	environ := inject.Merge(inject.Layers{Secrets: resolution.Secrets})
	slog.Info("resolved", "environment", environ, "secrets", resolution.Secrets, "hidden", environ.Hidden())
	fmt.Println(environ.Public(), environ.HasSecret())
	value, _ := environ.Lookup("A")
	return environ, fmt.Errorf("no error: %v of %d bytes", value, value.Len())
}
