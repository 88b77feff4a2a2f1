package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
)

// Server serves both APIs. Its indexes live in memory.
type Server struct {
	accounts []Account
	log      *slog.Logger
	indexes  indexes
	mux      *http.ServeMux
}

// New returns a server for the accounts, with no index yet.
func New(accounts []Account, log *slog.Logger) *Server {
	s := &Server{accounts: accounts, log: log, mux: http.NewServeMux()}
	s.mux.HandleFunc("POST /1/indexes/{index}/batch", s.search("batch", s.batch))
	s.mux.HandleFunc("GET /1/indexes/{index}/task/{task}", s.search("task", s.task))
	s.mux.HandleFunc("POST /1/indexes/{index}/query", s.search("query", s.query))
	s.mux.HandleFunc("POST /v1/chat/completions", s.chat)
	s.mux.HandleFunc("GET /v1/models", s.models)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// maxRequest bounds a request's body.
const maxRequest = 8 << 20

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	return json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(into)
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// The client has gone when this fails; nobody is left to tell.
	_ = json.NewEncoder(w).Encode(body)
}
