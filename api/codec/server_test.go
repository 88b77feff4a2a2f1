package codec_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/codec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/purser/v1/purserv1connect"
)

// node remembers what reached it.
type node struct {
	purserv1connect.UnimplementedWorkloadsHandler
	launched *purserv1.LaunchSpec
}

func (n *node) Launch(_ context.Context, req *connect.Request[purserv1.LaunchRequest]) (*connect.Response[purserv1.LaunchResponse], error) {
	n.launched = req.Msg.GetSpec()
	return connect.NewResponse(&purserv1.LaunchResponse{Workload: &purserv1.Workload{Spec: req.Msg.GetSpec(), Generation: 1}}), nil
}

func (n *node) List(context.Context, *connect.Request[purserv1.ListRequest]) (*connect.Response[purserv1.ListResponse], error) {
	return connect.NewResponse(&purserv1.ListResponse{}), nil
}

func (n *node) Exec(_ context.Context, stream *connect.BidiStream[purserv1.ExecRequest, purserv1.ExecResponse]) error {
	for {
		if _, err := stream.Receive(); err != nil {
			return err
		}
	}
}

func start(t *testing.T) (*node, *httptest.Server) {
	t.Helper()
	n := &node{}
	mux := http.NewServeMux()
	mux.Handle(purserv1connect.NewWorkloadsHandler(n, append(codec.HandlerOptions(), connect.WithInterceptors(codec.Validate()))...))
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return n, server
}

// post does what curl would.
func post(t *testing.T, server *httptest.Server, method, contentType, body string) (int, string) {
	t.Helper()
	res, err := server.Client().Post(server.URL+"/purser.v1.Workloads/"+method, contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

const goodSpec = `"app":"a","function":"f","image":{"ref":"b"}`

func TestJSONRequests(t *testing.T) {
	tests := map[string]struct {
		body string
		want string // in the answer to a refused request
	}{
		"good":             {`{"spec":{` + goodSpec + `,"read_only_root":true}}`, ""},
		"camel case":       {`{"spec":{` + goodSpec + `,"readOnlyRoot":true}}`, ""},
		"unknown":          {`{"spec":{` + goodSpec + `,"comand":[]}}`, `unknown field \"comand\"`},
		"repeated":         {`{"spec":{` + goodSpec + `,"app":"b"}}`, `duplicate field \"app\"`},
		"both names":       {`{"spec":{` + goodSpec + `,"read_only_root":true,"readOnlyRoot":true}}`, `duplicate field \"readOnlyRoot\"`},
		"repeated map key": {`{"spec":{` + goodSpec + `,"env":{"A":"1","A":"2"}}}`, `duplicate map key \"A\"`},
		"wrong type":       {`{"spec":{` + goodSpec + `,"user":1000}}`, `line 1:62: invalid value for string field user"`},
		"not JSON":         {`{"spec":`, `the JSON ends too early`},
		"nothing":          {``, `empty body: send {} for a request without fields`},
		"two values":       {`{} {}`, `line 1:4: this is not JSON, or not of the kind that belongs here`},
		"list for text":    {`{"spec":{"app":["x"]}}`, `line 1:16: invalid value for string field app"`},
		"text for a list":  {"{\n\"spec\":{\"command\":\"x\"}}", `line 2:19: this is not JSON, or not of the kind`},
		"broken rule":      {`{"spec":{` + goodSpec + `,"kind":"cron"}}`, `spec.kind: must be service or job (string.in)`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n, server := start(t)
			for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"} {
				status, body := post(t, server, "Launch", contentType, tt.body)
				if tt.want == "" {
					if status != http.StatusOK || !n.launched.GetReadOnlyRoot() {
						t.Errorf("%s: got %d %s", contentType, status, body)
					}
					continue
				}
				if status != http.StatusBadRequest || !strings.Contains(body, tt.want) || !strings.Contains(body, `"code":"invalid_argument"`) {
					t.Errorf("%s: got %d %s\nwant %s", contentType, status, body, tt.want)
				}
				if strings.Contains(body, "proto:") || n.launched != nil {
					t.Errorf("got %s, launched %v", body, n.launched)
				}
			}
		})
	}
}

func TestJSONResponses(t *testing.T) {
	_, server := start(t)
	if status, body := post(t, server, "List", "application/json", "{}"); status != http.StatusOK || compact(body) != `{"workloads":[]}` {
		t.Errorf("got %d %s", status, body)
	}
	_, body := post(t, server, "Launch", "application/json", `{"spec":{`+goodSpec+`}}`)
	for _, want := range []string{`"observed_generation":"0"`, `"pins":[]`, `"ref":"b"`, `"changed":false`} {
		if !strings.Contains(compact(body), want) {
			t.Errorf("%s lacks %s", body, want)
		}
	}
	if strings.Contains(body, `"kind"`) {
		t.Errorf("%s shows a field that is absent", body)
	}
}

// Somebody who forgets base64 must not find the secret in a log.
func TestErrorsQuoteNoValue(t *testing.T) {
	const secret = "s3cr3t!"
	for _, body := range []string{
		`{"data":{"K":"` + secret + `"}}`, `{"data":{"K":12345678}}`, `{"data":{"K":["` + secret + `"]}}`, `{"data":"` + secret + `"}`,
		`{"data":{"K":` + secret + `}}`, `{"data":{"K":"\x` + secret + `"}}`, `{"data":{"K":"` + secret, `{"data":{"K":"eHh4"} "` + secret + `"}`,
		`"` + secret + `"`, `{"remove":"` + secret + `"}`, `{"data":{"K":"eHh4"},"name":{"` + secret + `":1}}`,
	} {
		for _, c := range codec.All() {
			err := c.Unmarshal([]byte(body), &purserv1.PutRequest{})
			if err == nil || strings.Contains(err.Error(), "s3c") || strings.Contains(err.Error(), "1234") {
				t.Errorf("%s %s: got %v", c.Name(), body, err)
			}
		}
	}
	err := codec.All()[0].Unmarshal([]byte(`{"data":{"K":"`+secret+`"}}`), &purserv1.PutRequest{})
	if want := "line 1:14: invalid value for bytes field value, which is written in base64"; err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func compact(text string) string { return strings.ReplaceAll(text, " ", "") }

// unknownField is field 9999, set to 1, as a newer client would send it.
func unknownField() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1)
}

func TestBinaryRequests(t *testing.T) {
	spec := func() *purserv1.LaunchSpec {
		return &purserv1.LaunchSpec{App: proto.String("a"), Function: proto.String("f"),
			Image: &purserv1.Image{Ref: proto.String("b")}, Mounts: []*purserv1.Mount{{Target: proto.String("/a"), Source: proto.String("/a")}}}
	}
	tests := map[string]struct {
		change func(*purserv1.LaunchRequest)
		want   string
	}{
		"good":        {func(*purserv1.LaunchRequest) {}, ""},
		"at the top":  {func(r *purserv1.LaunchRequest) { r.ProtoReflect().SetUnknown(unknownField()) }, "unknown field number 9999 in purser.v1.LaunchRequest"},
		"in a field":  {func(r *purserv1.LaunchRequest) { r.Spec.Image.ProtoReflect().SetUnknown(unknownField()) }, "unknown field number 9999 in spec.image (purser.v1.Image)"},
		"in a list":   {func(r *purserv1.LaunchRequest) { r.Spec.Mounts[0].ProtoReflect().SetUnknown(unknownField()) }, "unknown field number 9999 in spec.mounts[0] (purser.v1.Mount)"},
		"broken rule": {func(r *purserv1.LaunchRequest) { r.Spec.Kind = proto.String("cron") }, "spec.kind: must be service or job (string.in)"},
	}
	for name, tt := range tests {
		for protocol, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				n, server := start(t)
				req := &purserv1.LaunchRequest{Spec: spec()}
				tt.change(req)
				_, err := purserv1connect.NewWorkloadsClient(server.Client(), server.URL, options...).Launch(t.Context(), connect.NewRequest(req))
				if tt.want == "" {
					if err != nil || !proto.Equal(n.launched, req.Spec) {
						t.Errorf("got %v, launched %v", err, n.launched)
					}
					return
				}
				if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), tt.want) || n.launched != nil {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			})
		}
	}
}

func TestViolationsAreDetails(t *testing.T) {
	_, server := start(t)
	_, err := purserv1connect.NewWorkloadsClient(server.Client(), server.URL).Launch(t.Context(), connect.NewRequest(&purserv1.LaunchRequest{
		Spec: &purserv1.LaunchSpec{App: proto.String("no spaces"), Function: proto.String("f"), Image: &purserv1.Image{Ref: proto.String("B")}},
	}))
	var refusal *connect.Error
	if !asConnect(err, &refusal) || len(refusal.Details()) != 1 {
		t.Fatalf("got %v", err)
	}
	detail, err := refusal.Details()[0].Value()
	if err != nil {
		t.Fatal(err)
	}
	want := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "spec.app", Reason: "STRING_PATTERN", Description: "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"},
		{Field: "spec.image.ref", Reason: "IMAGE_REF", Description: "must be lower case up to the tag"},
	}}
	if !proto.Equal(detail, want) {
		t.Errorf("got %v", detail)
	}
	if strings.Contains(refusal.Message(), "\n") {
		t.Errorf("message of several lines: %q", refusal.Message())
	}
}

func asConnect(err error, target **connect.Error) bool {
	e, ok := err.(*connect.Error)
	*target = e
	return ok
}

func TestStreamedRequestsAreChecked(t *testing.T) {
	_, server := start(t)
	stream := purserv1connect.NewWorkloadsClient(server.Client(), server.URL).Exec(t.Context())
	if err := stream.Send(&purserv1.ExecRequest{Start: &purserv1.ExecStart{Id: "a/f", Command: []string{"true"}}}); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&purserv1.ExecRequest{Start: &purserv1.ExecStart{}}); err != nil {
		t.Fatal(err)
	}
	_, err := stream.Receive()
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "start.id: is required (required); start.command: must contain at least 1 item") {
		t.Errorf("got %v", err)
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

func TestTooLarge(t *testing.T) {
	_, server := start(t)
	status, body := post(t, server, "List", "application/json", `{"app":"`+strings.Repeat("x", codec.MaxMessage)+`"}`)
	if !strings.Contains(body, "resource_exhausted") {
		t.Errorf("got %d %.200s", status, body)
	}
}
