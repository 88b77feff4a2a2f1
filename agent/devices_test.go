package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/store"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/devices"
)

// What a device's hook says of the container it has looked into is told without values.
func TestWhatHooksSayIsScreened(t *testing.T) {
	a, _ := rotating(t, "f")
	if _, err := a.secrets.Put(t.Context(), "dev", "s", store.PutOptions{Data: map[string]inject.Value{"KEY": inject.NewValue([]byte("hunter2hunter2"))}}); err != nil {
		t.Fatal(err)
	}
	w := a.all("dev", "")[0]
	resolution, err := w.resolution(t.Context(), w.record().GetSpec(), []*purserv1.Pin{{Secret: "s", Version: 2}})
	if err != nil {
		t.Fatal(err)
	}
	with := runtime.Instance{Devices: &devices.Set{}, Redactions: resolution.Redactions()}
	refused := (*runtime.StartError)(nil)
	said := w.screened(with, &runtime.StartError{Code: 128, Message: "error running hook: stderr: KEY=hunter2hunter2"})
	if !errors.As(said, &refused) || refused.Code != 128 || strings.Contains(said.Error(), "hunter2") || !strings.Contains(said.Error(), "stderr: KEY=[secret:s/KEY]") {
		t.Errorf("it is told as %#v", said)
	}
	if said := w.screened(with, fmt.Errorf("a hook has failed: hunter2hunter2")); strings.Contains(said.Error(), "hunter2") {
		t.Errorf("it is told as %v", said)
	}
	other := errors.New("containerd is unavailable")
	if got := w.screened(with, fmt.Errorf("creating: %w", other)); !errors.Is(got, other) {
		t.Errorf("what has no value is %v", got)
	}
}
