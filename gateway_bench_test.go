package stile_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/stiletest"
)

// discarding is a ResponseWriter that keeps nothing but the status.
type discarding struct {
	header http.Header
	status int
}

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarding) WriteHeader(status int)      { d.status = status }
func (d *discarding) Flush()                      {}

// SetReadDeadline is what the server's own writer has.
func (d *discarding) SetReadDeadline(time.Time) error { return nil }

// benchGateway is a gateway without a network: the upstream is a handler.
func benchGateway(b *testing.B, upstream http.HandlerFunc) (*stile.Gateway, string) {
	issuer := stiletest.NewIssuer(stiletest.IssuerOptions{URL: "https://issuer.example", Audience: []string{resource}})
	verifier, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuer.URL(), Audiences: []string{resource}, Transport: issuer.Client().Transport})
	if err != nil {
		b.Fatal(err)
	}
	var config authorize.Config
	if err := yaml.Unmarshal([]byte(notesPolicy), &config); err != nil {
		b.Fatal(err)
	}
	policy, err := authorize.New(config)
	if err != nil {
		b.Fatal(err)
	}
	g, err := stile.New(stile.Config{PublicURL: publicURL, Audit: io.Discard, Servers: []stile.Server{
		{Name: "notes", Path: "/mcp", Upstream: upstream, Policy: policy, Verifiers: []authenticate.Verifier{verifier}}}})
	if err != nil {
		b.Fatal(err)
	}
	return g, issuer.Token(stiletest.Claims{Scope: "notes:read"})
}

// BenchmarkGateway is a call with a token that was seen, all stages, without the
// two HTTP connections around them.
func BenchmarkGateway(b *testing.B) {
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientCapabilities":{}},"name":"get_note","arguments":{"id":"` + strings.Repeat("7", 2<<10) + `"}}}`)
	result := `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("text ", 400) + `"}]}}`
	answers := map[string]http.HandlerFunc{
		"json": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(result)))
			_, _ = io.WriteString(w, result)
		},
		"events": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for range 100 {
				_, _ = io.WriteString(w, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":\"p\",\"progress\":1}}\n\n")
				w.(http.Flusher).Flush()
			}
			_, _ = io.WriteString(w, "event: message\ndata: "+result+"\n\n")
		},
	}
	for _, name := range []string{"json", "events"} {
		answer := answers[name]
		b.Run(name, func(b *testing.B) {
			g, token := benchGateway(b, answer)
			r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, resource, nil)
			for name, value := range map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json",
				"Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call",
				"Mcp-Name": "get_note", "User-Agent": "bench", "Content-Length": strconv.Itoa(len(body))} {
				r.Header.Set(name, value)
			}
			r.ContentLength = int64(len(body))
			src := bytes.NewReader(body)
			r.Body = io.NopCloser(src)
			w := &discarding{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(body)
				clear(w.header)
				if g.ServeHTTP(w, r); w.status != http.StatusOK {
					b.Fatalf("status %d", w.status)
				}
			}
		})
	}
}
