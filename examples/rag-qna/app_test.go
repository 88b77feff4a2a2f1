// Package ragqna holds the test of the example's app file; the programs are in
// rag and fakeapis.
package ragqna

import (
	"os"
	"strings"
	"testing"

	"github.com/purserd/purser/api/launchspec"
)

func parse(t *testing.T, env map[string]string) (*launchspec.File, error) {
	t.Helper()
	data, err := os.ReadFile("rag-qna.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return launchspec.Parse("rag-qna.yaml", data, func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
}

func TestAppFile(t *testing.T) {
	for _, environment := range []string{"dev", "prod"} {
		env := map[string]string{"ALGOLIA_BASE_URL": "http://127.0.0.1:1", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
		if environment != "dev" { // the file's default
			env["APP_ENV"] = environment
		}
		file, err := parse(t, env)
		if err != nil {
			t.Fatal(err)
		}
		if file.App != "rag-qna" || len(file.Specs) != 2 || !file.Whole {
			t.Fatalf("got app %q with %d functions", file.App, len(file.Specs))
		}
		service, job := file.Specs[0], file.Specs[1]
		for _, spec := range file.Specs {
			if launchspec.Environment(spec) != environment || spec.GetEnv()["ALGOLIA_INDEX"] != "potus_speeches_"+environment {
				t.Errorf("%s: environment %s, env %v", launchspec.ID(spec), launchspec.Environment(spec), spec.GetEnv())
			}
		}
		if names := secretNames(service.GetSecrets()); names != "algolia-secret openai-secret" {
			t.Errorf("the service gets the secrets %s", names)
		}
		if names := secretNames(job.GetSecrets()); names != "algolia-secret" || !launchspec.IsJob(job) {
			t.Errorf("reindex is a %s and gets the secrets %s", launchspec.Kind(job), names)
		}
	}
}

func secretNames[S interface{ GetName() string }](secrets []S) string {
	var names []string
	for _, s := range secrets {
		names = append(names, s.GetName())
	}
	return strings.Join(names, " ")
}

func TestAppFileSaysWhatToSet(t *testing.T) {
	_, err := parse(t, nil)
	for _, text := range []string{"set it to where the search API is served", "set it to where the chat API is served, with /v1"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
}
