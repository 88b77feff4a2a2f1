package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// chatClient speaks OpenAI's chat completions API.
type chatClient struct {
	http  *http.Client
	base  string // ends in /v1
	key   string
	model string
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatRequest struct {
	Model       string        `json:"model"`
	Messages    []chatMessage `json:"messages"`
	Temperature float64       `json:"temperature"`
}

type chatResponse struct {
	Choices []struct {
		Message chatMessage `json:"message"`
	} `json:"choices"`
}

// complete returns the model's answer to the messages.
func (c chatClient) complete(ctx context.Context, messages []chatMessage) (string, error) {
	req, err := newRequest(ctx, http.MethodPost, c.base+"/chat/completions", chatRequest{Model: c.model, Messages: messages})
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	var resp chatResponse
	if err := do(c.http, req, &resp, openAIMessage); err != nil {
		return "", fmt.Errorf("asking the model %s: %w", c.model, err)
	}
	if len(resp.Choices) == 0 {
		return "", errors.New("the model gave no answer")
	}
	return resp.Choices[0].Message.Content, nil
}

// checkKey is an error when the API does not take the key. That it cannot be asked is none:
// it may be there when it is needed.
func (c chatClient) checkKey(ctx context.Context) error {
	req, err := newRequest(ctx, http.MethodGet, c.base+"/models", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("OPENAI_API_KEY is refused: %s", resp.Status)
	}
	return nil
}

func openAIMessage(body errorBody) error {
	if body.Error.Message == "" {
		return nil
	}
	return errors.New(body.Error.Message)
}

// errorBody is an error of either API.
type errorBody struct {
	Message string `json:"message"`
	Error   struct {
		Message string `json:"message"`
	} `json:"error"`
}

func newRequest(ctx context.Context, method, url string, body any) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// maxResponse bounds what is read of a response.
const maxResponse = 8 << 20

// do sends the request and decodes a 2xx response into result. Any other is an
// error with the API's own message, which message digs out of it.
func do(client *http.Client, req *http.Request, result any, message func(errorBody) error) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return fmt.Errorf("reading the response of %s: %w", req.URL.Host, err)
	}
	if resp.StatusCode/100 == 2 {
		if err := json.Unmarshal(data, result); err != nil {
			return fmt.Errorf("decoding the response of %s: %w", req.URL.Host, err)
		}
		return nil
	}
	var body errorBody
	// A proxy's error page is no JSON; the status alone must do then.
	_ = json.Unmarshal(data, &body)
	if err := message(body); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	return errors.New(resp.Status)
}
