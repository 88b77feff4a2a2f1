package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

// The reasons why an image cannot be had, in short.
const (
	Unauthorized = "unauthorized"
	NotFound     = "not found"
	NoHost       = "no such host"
	Refused      = "connection refused"
	Certificate  = "certificate not trusted"
	WrongImage   = "no image for"
	TimedOut     = "timed out"
	TooMany      = "too many requests"
	Unavailable  = "registry unavailable"
	NoSpace      = "no space"
	Broken       = "connection lost"
	Misconfigure = "misconfigured"
	Failed       = "failed"
)

// Reasons are all reasons, for what has to enumerate them.
var Reasons = []string{
	Unauthorized, NotFound, NoHost, Refused, Certificate, WrongImage, TimedOut, TooMany, Unavailable, NoSpace, Broken, Misconfigure, Failed,
}

// Transient says whether an image that cannot be had for a reason may be had soon,
// with nothing changed on this node.
func Transient(reason string) bool {
	return slices.Contains([]string{NoHost, Refused, TimedOut, TooMany, Unavailable, Broken}, reason)
}

// MissingError is a registry's word that it does not have something. containerd says
// "not found", too, of what it should have itself.
type MissingError struct{ Err error }

func (e *MissingError) Error() string { return e.Err.Error() }
func (e *MissingError) Unwrap() error { return e.Err }

// Said marks an error as what a registry has said.
func Said(err error) error {
	if errdefs.IsNotFound(err) {
		return &MissingError{err}
	}
	return err
}

// Explain puts the reason why an image cannot be had in front of what is known of
// it. It is meant for errors of the registry and of the way there.
func Explain(err error, registry string, login *Login) (reason, text string) {
	var status remoteerrors.ErrUnexpectedStatus
	var dns *net.DNSError
	var hosts *HostsError
	var config *ConfigError
	var busy *BusyError
	var silent *SilentError
	var stranger *NoRegistryError
	host := failedHost(err, registry)
	switch {
	case errors.As(err, &stranger):
		return Misconfigure, stranger.Error()
	case registry == "localhost" && errors.Is(err, syscall.ECONNREFUSED):
		return NotFound, "localhost is what imported images are named by, and no registry: bring it with purser image import, or leave the pull policy out if it is there"
	case isPlain(err):
		return Misconfigure, fmt.Sprintf("%s does not speak TLS: is that the registry's port? One without TLS needs a hosts.toml in certs.d with server = \"http://%s\"", host, host)
	case strings.Contains(err.Error(), "malformed HTTP"):
		return Misconfigure, (&NoRegistryError{Host: host}).Error()
	case errors.As(err, &hosts), errors.As(err, &config):
		return Misconfigure, innermost(err, hosts, config)
	case errors.As(err, &busy):
		return TooMany, busy.Error()
	case errors.As(err, &silent):
		return TimedOut, silent.Error()
	case errors.As(err, &dns) && dns.IsNotFound:
		return NoHost, dns.Name + " is not known to this node: check the reference, and the node's DNS"
	case isUntrusted(err):
		return Certificate, fmt.Sprintf("%s: %s; a private authority belongs into certs.d", host, certificateText(err))
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused, host + " does not listen: is that the registry's port, and does it run?"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return Refused, host + " cannot be reached from this node"
	case isUnauthorized(err):
		return Unauthorized, wants(host, registry, login)
	case errors.As(err, new(*MissingError)):
		return NotFound, fmt.Sprintf("registry %s has no such image: check its name and tag", registry)
	case errdefs.IsNotFound(err):
		return Failed, "containerd does not have what it had of it: " + err.Error()
	case errors.As(err, &status) && status.StatusCode >= http.StatusInternalServerError:
		return Unavailable, fmt.Sprintf("%s answers %s, which is for its operators to mend", host, status.Status)
	case errors.As(err, &status):
		return Failed, fmt.Sprintf("%s answers %s", host, status.Status)
	case isTimeout(err):
		return TimedOut, host + " does not answer"
	case strings.Contains(err.Error(), syscall.ENOSPC.Error()):
		// From containerd it comes as a text.
		return NoSpace, "the disk of the node's images is full: see purser image list and rm"
	case isBroken(err):
		return Broken, "it goes on from where it was: " + last(err)
	}
	return Failed, err.Error()
}

// innermost is the text of the first that is set.
func innermost(err error, hosts *HostsError, config *ConfigError) string {
	switch {
	case hosts != nil:
		return hosts.Error()
	case config != nil:
		return config.Error()
	}
	return err.Error()
}

// failedHost is the host that a request went to, which may be a mirror.
func failedHost(err error, otherwise string) string {
	var request *url.Error
	var status remoteerrors.ErrUnexpectedStatus
	switch {
	case errors.As(err, &request):
		if u, err := url.Parse(request.URL); err == nil && u.Host != "" {
			return u.Host
		}
	case errors.As(err, &status):
		if u, err := url.Parse(status.RequestURL); err == nil && u.Host != "" {
			return u.Host
		}
	}
	return otherwise
}

func isUnauthorized(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		return status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden
	}
	// The library has no error of its own for credentials with half of them missing.
	return errors.Is(err, docker.ErrInvalidAuthorization) || strings.Contains(err.Error(), "missing username or secret")
}

// wants says what to do about a registry that turns us away.
func wants(host, registry string, login *Login) string {
	if login.lacks(host, registry) {
		return fmt.Sprintf("registry %s wants credentials, and %s has nothing for it: its %s needs %q under auths", host, login.From, KeyDockerConfig, registry)
	}
	if login != nil {
		return fmt.Sprintf("registry %s does not accept %s; put it right with: %s; the next try takes it", host, login.From, login.set)
	}
	return fmt.Sprintf("registry %s wants credentials, or has no such image: name a secret with them in image.auth_secret (--auth-secret), or docker login on the node", host)
}

// NoRegistryError says that something else than a registry answers.
type NoRegistryError struct {
	Host string
	// Sent is the media type of what came; empty when it was no HTTP at all.
	Sent string
}

func (e *NoRegistryError) Error() string {
	if e.Sent == "" {
		return fmt.Sprintf("what answers at %s is no registry: it does not speak HTTP", e.Host)
	}
	return fmt.Sprintf("what answers at %s is no registry: it sent %s", e.Host, e.Sent)
}

// isPlain says whether somebody was spoken to in TLS who does not speak it.
func isPlain(err error) bool {
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError))
}

func isUntrusted(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &hostname) || errors.As(err, &invalid)
}

func certificateText(err error) string {
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		err = verification.Err
	}
	return strings.TrimPrefix(last(err), "x509: ")
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func isBroken(err error) bool {
	for _, broken := range []error{syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}

// last is the text of the innermost error.
func last(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
