package inject_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
)

// From a secret in the embedded store to the environment of a container.
func Example() {
	dir, err := os.MkdirTemp("", "purser-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	keys, err := keyring.Open(filepath.Join(dir, "identity.age"))
	if err != nil {
		panic(err)
	}
	secrets, err := store.Open(filepath.Join(dir, "secrets"), keys, store.Options{})
	if err != nil {
		panic(err)
	}
	defer secrets.Close()

	ctx := context.Background()
	data := map[string]inject.Value{"API_KEY": inject.NewValue([]byte("s3cret"))}
	if _, err := secrets.Put(ctx, "dev", "algolia-secret", store.PutOptions{Data: data}); err != nil {
		panic(err)
	}

	name := "algolia-secret"
	request := inject.Request{
		Environment: "dev",
		Refs:        []*purserv1.SecretRef{{Name: &name, Keys: map[string]string{"API_KEY": "ALGOLIA_API_KEY"}}},
	}
	resolution, err := inject.Resolve(ctx, secrets, request)
	if err != nil {
		panic(err)
	}
	environ := inject.Merge(inject.Layers{
		Image:   []string{"PATH=/bin", "ENV=image"},
		Secrets: resolution.Secrets,
		Env:     map[string]string{"ENV": "spec"},
	})
	fmt.Println("version", resolution.Pins[0].GetVersion())
	fmt.Println(environ)
	fmt.Println(environ.Public(), environ.Secret())

	request.Refs[0].RequiredKeys = []string{"APP_ID"}
	_, err = inject.Resolve(ctx, secrets, request)
	fmt.Println(err)
	// Output:
	// version 1
	// [redacted]
	// [ENV=spec PATH=/bin] [ALGOLIA_API_KEY=s3cret]
	// environment dev: secret algolia-secret lacks key APP_ID; add it with: purser secret set -E dev algolia-secret APP_ID=-
}
