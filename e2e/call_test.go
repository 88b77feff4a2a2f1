package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// call asks the agent by its API, and reads the answer into a value. What waits for something
// looks this way: starting purser for each look costs ten times as much as the look, and
// those who wait side by side would wait for each other.
func (n *node) call(method, body string, into any) error {
	answer, err := n.send(method, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

// stream is a call that is answered by many messages, and ends.
func (n *node) stream(method, body string) ([]json.RawMessage, error) {
	answer, err := n.send(method, "application/connect+json", bytes.NewReader(envelope(body)))
	var all []json.RawMessage
	for err == nil {
		if len(answer) < 5 {
			return nil, fmt.Errorf("%s: the stream ends within a message", method)
		}
		size := int(binary.BigEndian.Uint32(answer[1:])) + 5
		if message := answer[5:min(size, len(answer))]; answer[0]&2 == 0 {
			all, answer = append(all, message), answer[5+len(message):]
			continue
		} else if bytes.Contains(message, []byte(`"error"`)) {
			return nil, fmt.Errorf("%s: %s", method, message)
		}
		return all, nil
	}
	return nil, err
}

// send posts a request to the agent and returns the body of the answer.
func (n *node) send(method, kind string, body io.Reader) ([]byte, error) {
	socket := strings.TrimPrefix(n.host, "unix://")
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	response, err := client.Post("http://purser/purser.v1."+method, kind, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", method, response.Status, answer)
	}
	return answer, err
}

// envelope is a message as those of a stream are.
func envelope(message string) []byte {
	return append(append([]byte{0}, binary.BigEndian.AppendUint32(nil, uint32(len(message)))...), message...)
}

// serves tells whether an agent answers.
func (n *node) serves() bool {
	var answer struct{}
	return n.call("Node/Get", "{}", &answer) == nil
}

// knows tells whether the node has a workload.
func (n *node) knows(id string) bool {
	var answer struct{}
	return n.call("Workloads/Get", fmt.Sprintf(`{"id":%q}`, id), &answer) == nil
}
