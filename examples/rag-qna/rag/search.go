package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// searchClient speaks the part of Algolia's REST API that the program needs.
type searchClient struct {
	http        *http.Client
	base        string
	application string
	key         string
}

type searchHits struct {
	Hits []passage `json:"hits"`
}

// query returns at most limit passages, best first.
func (c searchClient) query(ctx context.Context, index, text string, limit int) ([]passage, error) {
	body := map[string]any{"query": text, "hitsPerPage": limit, "removeWordsIfNoResults": "allOptional"}
	var hits searchHits
	if err := c.call(ctx, http.MethodPost, "/1/indexes/"+url.PathEscape(index)+"/query", body, &hits); err != nil {
		return nil, fmt.Errorf("searching index %s: %w", index, err)
	}
	return hits.Hits, nil
}

type batchRequest struct {
	Action string `json:"action"`
	Body   any    `json:"body"`
}

// replaceAll makes the index hold exactly the passages. It returns once they can be found.
func (c searchClient) replaceAll(ctx context.Context, index string, passages []passage) error {
	requests := []batchRequest{{Action: "clear", Body: struct{}{}}}
	for _, p := range passages {
		requests = append(requests, batchRequest{Action: "addObject", Body: p})
	}
	var task struct {
		TaskID int64 `json:"taskID"`
	}
	path := "/1/indexes/" + url.PathEscape(index)
	if err := c.call(ctx, http.MethodPost, path+"/batch", map[string]any{"requests": requests}, &task); err != nil {
		return err
	}
	return c.waitTask(ctx, fmt.Sprintf("%s/task/%d", path, task.TaskID))
}

// taskPoll is the pause between two looks at an indexing task.
const taskPoll = 200 * time.Millisecond

func (c searchClient) waitTask(ctx context.Context, path string) error {
	for {
		var task struct {
			Status string `json:"status"`
		}
		if err := c.call(ctx, http.MethodGet, path, nil, &task); err != nil {
			return err
		}
		if task.Status == "published" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(taskPoll):
		}
	}
}

func (c searchClient) call(ctx context.Context, method, path string, body, result any) error {
	req, err := newRequest(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Algolia-Application-Id", c.application)
	req.Header.Set("X-Algolia-API-Key", c.key)
	return do(c.http, req, result, algoliaMessage)
}

// algoliaMessage digs the message out of an error response.
func algoliaMessage(body errorBody) error {
	if body.Message == "" {
		return nil
	}
	return errors.New(strings.TrimSuffix(body.Message, "."))
}
