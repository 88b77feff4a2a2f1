package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// searchError is how Algolia says no.
type searchError struct {
	Message string `json:"message"`
	Status  int    `json:"status"`
}

// searchHandler returns what to answer, or an error for the client.
type searchHandler func(w http.ResponseWriter, r *http.Request, index string) (any, *searchError)

// search checks the key before the handler sees the request, and logs.
func (s *Server) search(operation string, handle searchHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		index, key := r.PathValue("index"), r.Header.Get("X-Algolia-API-Key")
		account, fail := s.admit(r, index, key)
		var body any
		if fail == nil {
			body, fail = handle(w, r, index)
		}
		status := http.StatusOK
		if fail != nil {
			status, body = fail.Status, fail
		}
		s.log.Info("request", "api", "search", "environment", account.Environment, "key", Fingerprint(key),
			"index", index, "operation", operation, "status", status)
		respond(w, status, body)
	}
}

func (s *Server) admit(r *http.Request, index, key string) (Account, *searchError) {
	account, ok := find(s.accounts, byAlgoliaKey, key)
	switch {
	case !ok || r.Header.Get("X-Algolia-Application-Id") == "":
		return Account{Environment: "unknown"}, &searchError{"Invalid Application-ID or API key", http.StatusForbidden}
	case !account.opens(index):
		return account, &searchError{"Index not allowed with this API key", http.StatusForbidden}
	}
	return account, nil
}

type batchRequest struct {
	Requests []struct {
		Action string          `json:"action"`
		Body   json.RawMessage `json:"body"`
	} `json:"requests"`
}

type batchResponse struct {
	TaskID    int64    `json:"taskID"`
	ObjectIDs []string `json:"objectIDs"`
}

// batch applies all requests or, when one of them is wrong, none.
func (s *Server) batch(w http.ResponseWriter, r *http.Request, name string) (any, *searchError) {
	var req batchRequest
	if err := decode(w, r, &req); err != nil {
		return nil, badRequest("%v", err)
	}
	next := s.indexes.get(name)
	ids := []string{}
	for i, op := range req.Requests {
		switch op.Action {
		case "clear":
			next = index{}
		case "addObject", "updateObject":
			o, err := parseObject(op.Body)
			if err != nil {
				return nil, badRequest("requests[%d]: %v", i, err)
			}
			next = next.with(o)
			ids = append(ids, o.id)
		default:
			return nil, badRequest("requests[%d]: unknown action %q", i, op.Action)
		}
	}
	return batchResponse{TaskID: s.indexes.put(name, next), ObjectIDs: ids}, nil
}

// task says "published" for every task there was: batch indexes before it answers.
func (s *Server) task(_ http.ResponseWriter, r *http.Request, _ string) (any, *searchError) {
	var id int64
	if _, err := fmt.Sscan(r.PathValue("task"), &id); err != nil || !s.indexes.hadTask(id) {
		return nil, &searchError{"Task does not exist", http.StatusNotFound}
	}
	return map[string]any{"status": "published", "pendingTask": false}, nil
}

type queryRequest struct {
	Query       string `json:"query"`
	HitsPerPage *int   `json:"hitsPerPage"`
}

type queryResponse struct {
	Hits             []json.RawMessage `json:"hits"`
	NbHits           int               `json:"nbHits"`
	Page             int               `json:"page"`
	NbPages          int               `json:"nbPages"`
	HitsPerPage      int               `json:"hitsPerPage"`
	ProcessingTimeMS int64             `json:"processingTimeMS"`
	Query            string            `json:"query"`
}

// defaultHits is Algolia's own default of hitsPerPage, maxHits its limit.
const (
	defaultHits = 20
	maxHits     = 1000
)

func (s *Server) query(w http.ResponseWriter, r *http.Request, name string) (any, *searchError) {
	var req queryRequest
	if err := decode(w, r, &req); err != nil {
		return nil, badRequest("%v", err)
	}
	limit := defaultHits
	if req.HitsPerPage != nil {
		limit = *req.HitsPerPage
	}
	if limit < 1 || limit > maxHits {
		return nil, badRequest("hitsPerPage must be between 1 and %d", maxHits)
	}
	if !s.indexes.has(name) {
		return nil, &searchError{fmt.Sprintf("Index %s does not exist", name), http.StatusNotFound}
	}
	start := time.Now()
	found := s.indexes.get(name).rank(req.Query)
	hits := []json.RawMessage{}
	for _, o := range found[:min(limit, len(found))] {
		hits = append(hits, o.raw)
	}
	return queryResponse{
		Hits: hits, NbHits: len(found), NbPages: (len(found) + limit - 1) / limit, HitsPerPage: limit,
		ProcessingTimeMS: time.Since(start).Milliseconds(), Query: req.Query,
	}, nil
}

func badRequest(format string, args ...any) *searchError {
	return &searchError{fmt.Sprintf(format, args...), http.StatusBadRequest}
}
