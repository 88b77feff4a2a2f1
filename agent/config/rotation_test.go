package config

import (
	"strings"
	"testing"
	"time"
)

func TestRotation(t *testing.T) {
	c, err := Parse("config.toml", []byte("[rotation]\nquiet = '0s'\nmax_delay = '1m'\nmax_parallel = 8"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Rotation{0, Duration(time.Minute), 8}); c.Rotation != want {
		t.Errorf("got %+v", c.Rotation)
	}
	if want := (Rotation{Duration(time.Second), Duration(10 * time.Second), 4}); Default().Rotation != want {
		t.Errorf("default: %+v", Default().Rotation)
	}
}

func TestRotationThatCannotBe(t *testing.T) {
	for in, want := range map[string]string{
		"quiet = '20s'":    "rotation.max_delay: 10s is less than quiet, 20s",
		"max_parallel = 0": "rotation.max_parallel: must be 1 or more",
		"quiet = '-1s'":    "is not a duration",
		"max_paralel = 1":  "did you mean rotation.max_parallel?",
	} {
		if _, err := Parse("config.toml", []byte("[rotation]\n"+in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to contain %q", in, err, want)
		}
	}
}
