package stile_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/stiletest"
)

// every is one request for each kind of answer an endpoint gives.
func every(f *fixture) map[string]struct {
	ask  ask
	want int
} {
	token := f.token("notes:read")
	type kind = struct {
		ask  ask
		want int
	}
	return map[string]kind{
		"200":              {tool(era2025, token, "list_notes", `{}`), 200},
		"200 of 2026":      {tool(era2026, token, "list_notes", `{}`), 200},
		"stream":           {stream(token), 200},
		"denial in-band":   {tool(era2025, token, "drop_everything", `{}`), 200},
		"400 no JSON":      {ask{token: token, body: "{"}, 400},
		"400 header":       {tool(era2026, token, "list_notes", `{}`).with("Mcp-Name", "other"), 400},
		"400 two tokens":   {stream("").with("Authorization", "Bearer x").with("Authorization", "Bearer y"), 400},
		"401 no token":     {stream(""), 401},
		"401 bad token":    {stream("rubbish"), 401},
		"403 scope":        {tool(era2026, token, "delete_note", `{}`), 403},
		"404 session":      {stream(token).inSession("made up"), 404},
		"405":              {ask{method: http.MethodPut, token: token}, 405},
		"405 HEAD":         {ask{method: http.MethodHead, token: token}, 405},
		"406":              {ask{method: http.MethodGet, token: token}, 406},
		"413":              {ask{token: token, body: strings.Repeat(" ", 5<<20)}, 413},
		"415":              {ask{token: token, body: "{}"}.with("Content-Type", "text/plain"), 415},
		"502":              {tool(era2025, token, "get_broken", `{}`), 502},
		"502 bad gateway":  {tool(era2025, token, "get_unauthorized", `{}`), 502},
		"201 of upstream":  {tool(era2025, token, "get_created", `{}`), 201},
		"404 of upstream":  {tool(era2025, token, "get_nothing", `{}`), 404},
		"stream of a call": {tool(era2025, token, "get_events", `{}`), 200},
	}
}

// nosy is an upstream that says what is not its to say.
func nosy(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for name, value := range map[string]string{
		"Set-Cookie": "a=b", "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "Access-Control-Max-Age": "5",
		"WWW-Authenticate": `Basic realm="upstream"`, "Proxy-Authenticate": "Basic", "X-Request-Id": "upstream", "Alt-Svc": "h3=\":1\"",
		"Strict-Transport-Security": "max-age=1", "X-Kept": "yes", "Vary": "Cookie",
	} {
		h.Set(name, value)
	}
	var call struct {
		Params struct{ Name string }
	}
	_ = json.NewDecoder(r.Body).Decode(&call)
	switch call.Params.Name {
	case "get_broken":
		panic(http.ErrAbortHandler)
	case "get_unauthorized":
		w.WriteHeader(http.StatusUnauthorized)
	case "get_created":
		stiletest.AnswerJSON(http.StatusCreated, `{"jsonrpc":"2.0","id":7,"result":{}}`)(w, r)
	case "get_nothing":
		stiletest.AnswerJSON(http.StatusNotFound, `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}`)(w, r)
	case "get_events":
		stiletest.AnswerSSE("data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n\n")(w, r)
	default:
		answerTool(w, r)
	}
}

// Every answer has a request id of ours, each another one; it can be read by the
// pages that may call, and only by them (DES-50). What an upstream says in our
// name goes no further.
func TestHeadersOfEveryAnswer(t *testing.T) {
	f := newFixture(t, notesPolicy, nosy)
	ids := map[string]bool{}
	for name, kind := range every(f) {
		for _, origin := range []string{"", "https://app.example.com", publicURL} {
			a := kind.ask
			if origin != "" {
				a = a.with("Origin", origin)
			}
			w := do(t, f.gateway, a)
			h := w.Header()
			if w.Code != kind.want {
				t.Errorf("%s: %d, want %d: %s", name, w.Code, kind.want, printable(w.Body.Bytes()))
			}
			id := h.Get("X-Request-Id")
			if id == "" || id == "upstream" || ids[id] || strings.ContainsAny(id, "0123456789") {
				t.Errorf("%s: X-Request-Id %q", name, id)
			}
			ids[id] = true
			checkNotUpstreams(t, name, h)
			if got := h.Values("Access-Control-Allow-Origin"); strings.Join(got, ",") != origin {
				t.Errorf("%s: Access-Control-Allow-Origin %q, want %q", name, got, origin)
			}
			exposed := h.Get("Access-Control-Expose-Headers")
			if origin == "" && exposed != "" {
				t.Errorf("%s: exposes %q to nobody", name, exposed)
			}
			for _, want := range []string{"WWW-Authenticate", "Mcp-Session-Id", "MCP-Protocol-Version", "X-Request-Id"} {
				if origin != "" && !slices.Contains(strings.Split(exposed, ", "), want) {
					t.Errorf("%s: %s is not exposed: %q", name, want, exposed)
				}
			}
			if !strings.Contains(h.Get("Vary"), "Origin") {
				t.Errorf("%s: Vary %q", name, h.Get("Vary"))
			}
		}
	}
}

// checkNotUpstreams wants nothing of what nosy says.
func checkNotUpstreams(t *testing.T, name string, h http.Header) {
	t.Helper()
	for _, header := range []string{"Set-Cookie", "Access-Control-Allow-Credentials", "Access-Control-Max-Age", "Proxy-Authenticate", "Alt-Svc", "Strict-Transport-Security"} {
		if h.Get(header) != "" {
			t.Errorf("%s: the upstream's %s: %q", name, header, h.Values(header))
		}
	}
	for _, value := range h.Values("WWW-Authenticate") {
		if !strings.HasPrefix(value, "Bearer ") || !strings.Contains(value, publicURL) {
			t.Errorf("%s: WWW-Authenticate %q", name, value)
		}
	}
	if n := len(h.Values("WWW-Authenticate")); n > 1 {
		t.Errorf("%s: %d challenges", name, n)
	}
}

// What is left of an upstream's header is passed on.
func TestOtherHeadersPass(t *testing.T) {
	f := newFixture(t, notesPolicy, nosy)
	w := do(t, f.gateway, tool(era2025, f.token("notes:read"), "list_notes", `{}`))
	if got := w.Header().Get("X-Kept"); got != "yes" {
		t.Errorf("X-Kept %q", got)
	}
}

// A page of another origin is refused before anything else and told nothing: no
// challenge (DES-27), no CORS header, no reading of the token.
func TestForeignOrigins(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool)
	for _, origin := range []string{"https://evil.example", "null", "", "https://app.example.com.evil.example", "https://app.example.com:444",
		"http://app.example.com", "http://localhost:3000", "https://app.example.com, https://evil.example"} {
		for name, kind := range every(f) {
			a := kind.ask
			a.header = a.header.Clone()
			if a.header == nil {
				a.header = http.Header{}
			}
			a.header["Origin"] = []string{origin}
			w := do(t, f.gateway, a)
			if w.Code != http.StatusForbidden || w.Header().Get("WWW-Authenticate") != "" || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("Origin %q, %s: %d %v", origin, name, w.Code, w.Header())
			}
		}
	}
	two := stream(f.token("notes:read")).with("Origin", publicURL).with("Origin", "https://evil.example")
	if w := do(t, f.gateway, two); w.Code != http.StatusForbidden {
		t.Errorf("two origins: %d", w.Code)
	}
	if f.reached() != 0 || f.issuer.Count(stiletest.EndpointJWKS) != 0 {
		t.Error("a foreign page got further than the door")
	}
}

// Paths that are none of ours are not found, and nothing is said about them.
func TestOtherPaths(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool)
	for _, path := range []string{"/", "/mcp/", "/MCP", "/mcp/x", "//mcp", "/mcp%2f", "/./mcp", "/healthz/", "/.well-known/oauth-protected-resource/other"} {
		a := tool(era2025, f.token("notes:read"), "list_notes", `{}`)
		a.path = path
		if w := do(t, f.gateway, a); w.Code != http.StatusNotFound || w.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
	if f.reached() != 0 {
		t.Error("a request reached the upstream")
	}
}

// panicking is a verifier that breaks its contract, and outage one that cannot
// tell.
type panicking struct{}

func (panicking) Verify(context.Context, string) (*authenticate.Identity, error) { panic("secret") }

type outage struct{}

func (outage) Verify(context.Context, string) (*authenticate.Identity, error) {
	return nil, errors.New("secret cause")
}

// Where a token cannot be checked nobody is sent to log in: 503 with a time, no
// challenge (DES-26).
func TestTokensThatCannotBeChecked(t *testing.T) {
	for _, v := range []authenticate.Verifier{panicking{}, outage{}} {
		f := newFixture(t, notesPolicy, answerTool, func(c *stile.Config) { c.Servers[0].Verifiers = []authenticate.Verifier{v} })
		w := do(t, f.gateway, tool(era2026, "token", "list_notes", `{}`))
		checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusServiceUnavailable, "null")
		if w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "" || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%T: %v %s", v, w.Header(), w.Body)
		}
		if f.reached() != 0 {
			t.Errorf("%T: the call went through", v)
		}
	}
}
