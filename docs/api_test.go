package docs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// The page has every service with every call.
func TestServicesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []protoreflect.FileDescriptor{
		purserv1.File_purser_v1_workloads_proto, purserv1.File_purser_v1_apps_proto, purserv1.File_purser_v1_secrets_proto,
		purserv1.File_purser_v1_images_proto, purserv1.File_purser_v1_volumes_proto, purserv1.File_purser_v1_node_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			row := fmt.Sprintf("| `%s` |", service.Name())
			for j := range service.Methods().Len() {
				row += fmt.Sprintf(" `%s`", service.Methods().Get(j).Name())
			}
			if !strings.Contains(string(page), row+" |") {
				t.Errorf("api.md lacks %s |", row)
			}
		}
	}
}
