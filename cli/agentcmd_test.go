package cli

import "testing"

func TestAgentNeedsRoot(t *testing.T) {
	if err := needsRoot(0); err != nil {
		t.Errorf("root: %v", err)
	}
	if err := needsRoot(1000); err == nil {
		t.Error("a user may run the agent")
	}
}
