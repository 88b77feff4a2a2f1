package main

import (
	"context"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// put sets a key of a secret to a value, which is made up.
func (n *node) put(ctx context.Context, secret, key, value string) error {
	_, err := n.api.Secrets.Put(ctx, connect.NewRequest(&purserv1.PutRequest{Name: secret, Data: map[string][]byte{key: []byte(value)}}))
	return err
}
