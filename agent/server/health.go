package server

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/purserd/purser/agent"
)

// readiness is the answer of /readyz.
type readiness struct {
	Ready  bool    `json:"ready"`
	Checks []check `json:"checks"`
}

type check struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// healthz answers as long as the process serves.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// readyPatience bounds the checks.
const readyPatience = 5 * time.Second

// readyz tells whether the node can do what a scheduler would have it do, with status
// 503 when it cannot.
func readyz(checks func(context.Context) []agent.Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyPatience)
		defer cancel()
		answer := readiness{Ready: true}
		for _, c := range checks(ctx) {
			shown := check{Name: c.Name, OK: c.Err == nil}
			if c.Err != nil {
				shown.Error, answer.Ready = c.Err.Error(), false
			}
			answer.Checks = append(answer.Checks, shown)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !answer.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}
