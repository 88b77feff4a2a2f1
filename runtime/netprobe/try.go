package netprobe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// MaxAnswer bounds what is passed on of a server's answer.
const MaxAnswer = 16 << 10

// Try makes one try of a probe that goes over the network. What the server said when
// it fails is written to answer. The error wraps ctx's when that has ended first.
func (n *Network) Try(ctx context.Context, p *purserv1.Probe, answer io.Writer) error {
	within, cancel := context.WithCancel(ctx)
	c := &connections{network: n, ctx: within}
	defer c.close()
	defer cancel()
	err := c.try(p, answer)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *connections) try(p *purserv1.Probe, answer io.Writer) error {
	switch {
	case p.GetHttp() != nil:
		return c.http(p.GetHttp(), answer)
	case p.GetGrpc() != nil:
		return c.grpc(p.GetGrpc(), answer)
	case p.GetTcp() != nil:
		return c.tcp(p.GetTcp())
	}
	return errors.New("this probe does not go over the network")
}

func (c *connections) tcp(p *purserv1.TcpProbe) error {
	if _, err := c.loopback(strconv.Itoa(int(p.GetPort()))); err != nil {
		return connectError(p.GetPort(), err)
	}
	return nil
}

// connectError says of a connection that could not be made what the kernel did.
func connectError(port uint32, err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return fmt.Errorf("connecting to port %d: %w", port, errno)
	}
	if failed := (*net.OpError)(nil); errors.As(err, &failed) {
		return fmt.Errorf("connecting to port %d: %w", port, failed.Err)
	}
	return fmt.Errorf("connecting to port %d: %w", port, err)
}
