// Package registry says where images come from: which hosts serve a reference, over
// which connections, with whose credentials.
//
// Hosts, mirrors and certificates are those of containerd's certs.d, credentials a
// secret's ([Login]) or those of docker's configuration with its credential helpers.
// A registry on a loopback address may speak plain HTTP.
package registry
