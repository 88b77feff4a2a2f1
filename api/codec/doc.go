// Package codec puts purser's messages on the wire and reads them back
// strictly.
//
// Connect's own JSON codec drops fields that it does not know and writes
// lowerCamelCase; its binary codec keeps unknown fields, unread. A scheduler
// with a typo, or newer than the agent, would then get something else than it
// asked for. A server uses
//
//	options := append(codec.HandlerOptions(), connect.WithInterceptors(codec.Validate()))
//
// and so refuses unknown and repeated fields, and whatever breaks a rule of
// the .proto or of [launchspec.Validate], each with the code invalid_argument
// and, for rules, a google.rpc.BadRequest detail that names the field.
//
// Requests in JSON may name fields in snake_case or in lowerCamelCase, as the
// protobuf mapping wants of every reader, but each only once. Everything
// written is in snake_case.
//
// [MarshalJSON] and [MarshalYAML] write the same mapping for people, the same
// bytes every time.
package codec
