// Package client talks to a purser agent.
//
// A [Client] holds one typed client for each service of the API; their
// messages are those of [github.com/purserd/purser/api/purser/v1]:
//
//	c, err := client.New(client.DefaultHost)
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	res, err := c.Workloads.Launch(ctx, connect.NewRequest(&purserv1.LaunchRequest{Spec: spec}))
//
// Launch is idempotent and returns once the agent has persisted the spec, so a
// scheduler may repeat it until it succeeds, and give every launch the
// generation of its own decision so that an older one can't undo it.
//
// Errors carry Connect codes ([connect.CodeOf]); a refused field is named in
// a google.rpc.BadRequest detail. [Unreachable] tells "no agent there" from
// an agent that answered with an error.
package client

import (
	"net/http"

	"connectrpc.com/connect"

	"github.com/purserd/purser/api/purser/v1/purserv1connect"
)

// DefaultHost is where an agent listens unless its config says otherwise.
const DefaultHost = "unix:///run/purser/purser.sock"

// Client is a connection to one agent. It is safe for concurrent use.
type Client struct {
	Workloads purserv1connect.WorkloadsClient
	Apps      purserv1connect.AppsClient
	Secrets   purserv1connect.SecretsClient
	Images    purserv1connect.ImagesClient
	Volumes   purserv1connect.VolumesClient
	Node      purserv1connect.NodeClient
	Audit     purserv1connect.AuditClient

	transport *http.Transport
}

// New makes a client for the agent at a host: unix:///path/to/socket or
// http://host:port. It fails only on a malformed host; whether an agent is
// there shows with the first call.
//
// Responses are read leniently, so that a client goes on working with a newer
// agent; the agent reads requests strictly. Options such as
// [connect.WithGRPC] apply to all services.
func New(host string, options ...connect.ClientOption) (*Client, error) {
	target, err := parseHost(host)
	if err != nil {
		return nil, err
	}
	if target.network == "unix" {
		// Compressing what does not leave the machine takes longer than sending it.
		options = append([]connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil)}, options...)
	}
	transport := target.transport()
	hc := &http.Client{Transport: transport}
	return &Client{
		Workloads: purserv1connect.NewWorkloadsClient(hc, target.url, options...),
		Apps:      purserv1connect.NewAppsClient(hc, target.url, options...),
		Secrets:   purserv1connect.NewSecretsClient(hc, target.url, options...),
		Images:    purserv1connect.NewImagesClient(hc, target.url, options...),
		Volumes:   purserv1connect.NewVolumesClient(hc, target.url, options...),
		Node:      purserv1connect.NewNodeClient(hc, target.url, options...),
		Audit:     purserv1connect.NewAuditClient(hc, target.url, options...),
		transport: transport,
	}, nil
}

// Close drops idle connections. Calls under way are not cut short.
func (c *Client) Close() {
	c.transport.CloseIdleConnections()
}
