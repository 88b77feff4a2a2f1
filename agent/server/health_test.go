package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/purserd/purser/agent"
)

func TestReadyz(t *testing.T) {
	for name, tc := range map[string]struct {
		checks []agent.Check
		code   int
		ready  bool
	}{
		"all well":  {[]agent.Check{{Name: "containerd"}, {Name: "database"}}, http.StatusOK, true},
		"one wrong": {[]agent.Check{{Name: "containerd", Err: errors.New("refused")}, {Name: "database"}}, http.StatusServiceUnavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			readyz(func(context.Context) []agent.Check { return tc.checks })(w, httptest.NewRequest("GET", "/readyz", nil))
			var got readiness
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("%v in %s", err, w.Body)
			}
			if w.Code != tc.code || got.Ready != tc.ready || len(got.Checks) != len(tc.checks) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			for i, c := range got.Checks {
				if want := tc.checks[i]; c.Name != want.Name || c.OK != (want.Err == nil) || want.Err != nil && c.Error != want.Err.Error() {
					t.Errorf("got %+v, want %+v", c, want)
				}
			}
		})
	}
}

func TestHealthz(t *testing.T) {
	w := httptest.NewRecorder()
	healthz(w, httptest.NewRequest("GET", "/healthz", nil))
	if w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
