package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// report is what a client says about one flow: connect, list, the operation
// under test, close. flow/run.mjs prints it as one JSON line.
type report struct {
	OK            bool            `json:"ok"`
	Result        json.RawMessage `json:"result"`
	Error         string          `json:"error"`
	SessionBefore string          `json:"sessionBefore"` // before the operation
	SessionAfter  string          `json:"sessionAfter"`
	Exchanges     []*exchange     `json:"exchanges"`
}

// exchange is one HTTP request of a client and its answer.
type exchange struct {
	Method          string `json:"method"`
	Path            string `json:"path"`
	RPC             string `json:"rpc"`
	Version         string `json:"version"`
	Status          int    `json:"status"`
	WWWAuthenticate string `json:"wwwAuthenticate"`
	Grant           string `json:"grant"` // of a token request
}

// withStatus answers the exchanges with the endpoint that ended with a status.
func (r *report) withStatus(status int) []*exchange {
	var found []*exchange
	for _, e := range r.Exchanges {
		if e.Path == "/mcp" && e.Status == status {
			found = append(found, e)
		}
	}
	return found
}

// operation is a kind of operation and what it is done to.
type operation struct {
	kind   string // as flow/run.mjs calls it
	method string
	target target
	asks   string // what the second login asks for, in any order
}

// target is what an operation is done to.
type target struct {
	Name      string            `json:"name,omitempty"`
	Arguments map[string]string `json:"arguments,omitempty"`
	URI       string            `json:"uri,omitempty"`
}

// flow drives one client through one operation.
type flow func(t *testing.T, endpoint, era string, op operation) *report

// nodeFlow drives a client of a script, with variables added to its environment.
func nodeFlow(script string, env ...string) flow {
	return func(t *testing.T, endpoint, era string, op operation) *report {
		t.Helper()
		target, err := json.Marshal(op.target)
		if err != nil {
			t.Fatal(err)
		}
		out, err := run(t, env, node(t), script, endpoint, era, op.kind, string(target))
		if err != nil {
			t.Fatal(err)
		}
		r := &report{}
		if err := json.Unmarshal(out, r); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return r
	}
}

// goFlow drives the go-sdk's client with its own authorization code handler.
func goFlow(t *testing.T, endpoint, era string, op operation) *report {
	t.Helper()
	return goFlowOf(visit)(t, endpoint, era, op)
}

// visiting goes to an authorization URL with a browser, and returns what the client
// is called back with.
type visiting func(ctx context.Context, authorizationURL string) (url.Values, error)

// goFlowOf is goFlow with another browser.
func goFlowOf(visit visiting) flow {
	return func(t *testing.T, endpoint, era string, op operation) *report {
		t.Helper()
		return driveGo(t, visit, endpoint, era, op)
	}
}

func driveGo(t *testing.T, visit visiting, endpoint, era string, op operation) *report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	recorder := &recorder{transport: http.DefaultTransport.(*http.Transport).Clone()}
	// A connection that was opened and never used holds up the gateway's end.
	defer recorder.transport.CloseIdleConnections()
	r := &report{}
	if err := goSession(ctx, r, &http.Client{Transport: recorder}, visit, endpoint, era, op); err != nil {
		r.Error = err.Error()
	}
	r.OK = r.Error == ""
	r.Exchanges = recorder.taken()
	return r
}

func goSession(ctx context.Context, r *report, httpClient *http.Client, visit visiting, endpoint, era string, op operation) error {
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{
			Metadata: &oauthex.ClientRegistrationMetadata{
				ClientName: "stile interop", RedirectURIs: []string{redirectURI}, TokenEndpointAuthMethod: "none",
			},
		},
		AuthorizationCodeFetcher: login(visit),
		Client:                   httpClient,
	})
	if err != nil {
		return err
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1.8.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: endpoint, HTTPClient: httpClient, OAuthHandler: handler,
	}, &mcp.ClientSessionOptions{ProtocolVersion: era})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != era {
		return fmt.Errorf("negotiated %s, want %s", got, era)
	}
	if err := goList(ctx, session, op.kind); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	r.SessionBefore = session.ID()
	result, err := goCall(ctx, session, op)
	if err != nil {
		return fmt.Errorf("call: %w", err)
	}
	r.SessionAfter = session.ID()
	if r.Result, err = json.Marshal(result); err != nil {
		return err
	}
	return session.Close()
}

func login(visit visiting) auth.AuthorizationCodeFetcher {
	return func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
		callback, err := visit(ctx, args.URL)
		if err != nil {
			return nil, err
		}
		return &auth.AuthorizationResult{
			Code: callback.Get("code"), State: callback.Get("state"), Iss: callback.Get("iss"),
		}, nil
	}
}

func goList(ctx context.Context, session *mcp.ClientSession, kind string) (err error) {
	switch kind {
	case "tool":
		_, err = session.ListTools(ctx, nil)
	case "resource":
		_, err = session.ListResources(ctx, nil)
	case "template":
		_, err = session.ListResourceTemplates(ctx, nil)
	case "prompt":
		_, err = session.ListPrompts(ctx, nil)
	}
	return err
}

func goCall(ctx context.Context, session *mcp.ClientSession, op operation) (any, error) {
	switch op.kind {
	case "tool":
		return session.CallTool(ctx, &mcp.CallToolParams{Name: op.target.Name, Arguments: op.target.Arguments})
	case "prompt":
		return session.GetPrompt(ctx, &mcp.GetPromptParams{Name: op.target.Name, Arguments: op.target.Arguments})
	default:
		return session.ReadResource(ctx, &mcp.ReadResourceParams{URI: op.target.URI})
	}
}

// recorder is a RoundTripper that remembers every exchange, in order.
type recorder struct {
	transport *http.Transport

	mu        sync.Mutex
	exchanges []*exchange
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	entry := &exchange{
		Method: request.Method, Path: request.URL.Path, Version: request.Header.Get("MCP-Protocol-Version"),
	}
	if err := entry.readRPC(request); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.exchanges = append(r.exchanges, entry)
	r.mu.Unlock()
	response, err := r.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	entry.Status = response.StatusCode
	entry.WWWAuthenticate = response.Header.Get("WWW-Authenticate")
	return response, nil
}

// readRPC notes the method of a JSON-RPC message and puts the body back.
func (e *exchange) readRPC(request *http.Request) error {
	if request.Body == nil || request.Header.Get("Content-Type") != "application/json" {
		return nil
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return err
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	var message struct{ Method string }
	if err := json.Unmarshal(body, &message); err != nil {
		return err
	}
	e.RPC = message.Method
	return nil
}

// taken answers a copy of what was recorded so far.
func (r *recorder) taken() []*exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	copies := make([]*exchange, len(r.exchanges))
	for i, e := range r.exchanges {
		copied := *e
		copies[i] = &copied
	}
	return copies
}
