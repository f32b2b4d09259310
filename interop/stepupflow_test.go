package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/stepup"
)

// stepUpFlow drives a program that knows nothing of OAuth: the go-sdk's client, with
// a stepup.Transport that gets it over the fence.
func stepUpFlow(visit visiting) flow {
	return func(t *testing.T, endpoint, era string, op operation) *report {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), runLimit)
		defer cancel()
		recorder := &recorder{transport: http.DefaultTransport.(*http.Transport).Clone()}
		defer recorder.transport.CloseIdleConnections()
		transport, err := stepup.New(stepup.Config{Base: recorder, Person: opener{visit}, ClientName: "stile interop"})
		if err != nil {
			t.Fatal(err)
		}
		r := &report{}
		if err := plainSession(ctx, r, &http.Client{Transport: transport}, endpoint, era, op); err != nil {
			r.Error = err.Error()
		}
		r.OK, r.Exchanges = r.Error == "", recorder.taken()
		return r
	}
}

// plainSession connects, lists, and does the operation.
func plainSession(ctx context.Context, r *report, httpClient *http.Client, endpoint, era string, op operation) error {
	client := mcp.NewClient(&mcp.Implementation{Name: "stepup", Version: "1.8.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: endpoint, HTTPClient: httpClient},
		&mcp.ClientSessionOptions{ProtocolVersion: era})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
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

// opener is a person who authorises with a browser that returns what the client
// would be called back with.
type opener struct{ visit visiting }

// Begin expects the answer where the clients of these tests do.
func (o opener) Begin(context.Context, string) (stepup.Visit, error) { return o, nil }

// RedirectURI is where the answer is expected.
func (o opener) RedirectURI() string { return redirectURI }

// Authorize authorises.
func (o opener) Authorize(ctx context.Context, r stepup.Request) (url.Values, error) {
	return o.visit(ctx, r.URL)
}

// Close has nothing to close.
func (o opener) Close() error { return nil }
