package netprobe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// grpc asks the health service of grpc's own definition.
func (c *connections) grpc(p *purserv1.GrpcProbe, answer io.Writer) error {
	port := strconv.Itoa(int(p.GetPort()))
	refused := make(chan error, 1) // the first connection that failed
	client, err := grpc.NewClient("passthrough:///localhost:"+port,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(userAgent),
		grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			conn, err := c.loopback(port)
			if err != nil {
				select {
				case refused <- err:
				default:
				}
			}
			return conn, err
		}))
	if err != nil {
		return fmt.Errorf("preparing the call: %w", err)
	}
	defer client.Close()
	health, err := grpc_health_v1.NewHealthClient(client).Check(c.ctx, &grpc_health_v1.HealthCheckRequest{Service: p.GetService()})
	if err == nil {
		return servingError(health.GetStatus())
	}
	select {
	case err := <-refused:
		return connectError(p.GetPort(), err)
	default:
		return callError(p, err, answer)
	}
}

func servingError(s grpc_health_v1.HealthCheckResponse_ServingStatus) error {
	if s == grpc_health_v1.HealthCheckResponse_SERVING {
		return nil
	}
	return fmt.Errorf("the server says %s", s)
}

// callError puts into words why a call failed.
func callError(p *purserv1.GrpcProbe, err error, answer io.Writer) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Unimplemented:
		return errors.New("the server does not have the service grpc.health.v1.Health")
	case codes.NotFound:
		return fmt.Errorf("the server's health service does not know the service %q", p.GetService())
	}
	_, _ = io.WriteString(answer, s.Message())
	return fmt.Errorf("the call failed with %s", s.Code())
}
