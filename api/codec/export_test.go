package codec

import "connectrpc.com/connect"

// Codec lets the tests name it.
type Codec = connect.Codec

// All are the codecs that [HandlerOptions] installs.
func All() []Codec {
	return []Codec{jsonCodec{name: "json"}, protoCodec{}}
}
