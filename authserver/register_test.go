package authserver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/store"
)

func TestRegistration(t *testing.T) {
	f := newFixture(t, nil)
	r := f.registered(map[string]any{"redirect_uris": []string{"http://127.0.0.1/cb"}, "client_name": "Agent", "application_type": "native",
		"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code", "refresh_token"}, "scope": "notes:read", "logo_uri": "javascript:x"})
	if r.status != http.StatusCreated || r.text("client_id") == "" || r.text("client_secret") != "" || r.text("application_type") != "native" || r.text("scope") != "notes:read" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	// The registered scope is no ceiling.
	q := f.request("client_id", r.text("client_id"), "redirect_uri", "http://127.0.0.1:9/cb", "scope", "notes:read notes:admin")
	if p, err := f.Pending(t.Context(), f.waiting(q), ada); err != nil || len(p.Scopes) != 2 || p.Client.Name != "Agent" || p.Client.Verified != "" {
		t.Errorf("%+v %v", p, err)
	}
	secret := f.registered(map[string]any{"redirect_uris": []string{"https://app.example.com/cb"}})
	if secret.text("client_secret") == "" || secret.text("token_endpoint_auth_method") != "client_secret_basic" || secret.json()["client_secret_expires_at"] != 0.0 {
		t.Errorf("%s", secret.body)
	}
	id := secret.text("client_id")
	code := f.allowed(f.request("client_id", id), ada, "notes:read")
	if r := f.redeem(code, "client_id", id); r.status != 401 {
		t.Errorf("without its secret: %d %s", r.status, r.body)
	}
}

func TestRegistrationsRefused(t *testing.T) {
	f := newFixture(t, nil)
	for name, metadata := range map[string]map[string]any{
		"no redirect":    {},
		"script":         {"redirect_uris": []string{"javascript:alert(1)"}},
		"data":           {"redirect_uris": []string{"data:text/html,x"}},
		"plain http":     {"redirect_uris": []string{"http://app.example.com/cb"}},
		"http lookalike": {"redirect_uris": []string{"http://127.0.0.1.evil.example/cb"}},
		"fragment":       {"redirect_uris": []string{"https://app.example.com/cb#x"}},
		"user":           {"redirect_uris": []string{"https://x@app.example.com/cb"}},
		"relative":       {"redirect_uris": []string{"/cb"}},
		"wildcard":       {"redirect_uris": []string{"https://*.example.com/cb"}},
		"unknown scheme": {"redirect_uris": []string{"evil://cb"}},
		"one of two":     {"redirect_uris": []string{"https://app.example.com/cb", "http://app.example.com/cb"}},
		"key":            {"redirect_uris": []string{"https://app.example.com/cb"}, "token_endpoint_auth_method": "private_key_jwt"},
		"implicit":       {"redirect_uris": []string{"https://app.example.com/cb"}, "grant_types": []string{"implicit"}},
		"alone":          {"redirect_uris": []string{"https://app.example.com/cb"}, "grant_types": []string{"client_credentials"}},
		"token":          {"redirect_uris": []string{"https://app.example.com/cb"}, "response_types": []string{"token"}},
		"kind":           {"redirect_uris": []string{"https://app.example.com/cb"}, "application_type": "desktop"},
		"long name":      {"redirect_uris": []string{"https://app.example.com/cb"}, "client_name": strings.Repeat("x", 300)},
	} {
		f := f
		if name == "one of two" {
			f = newFixture(t, nil) // the rate is bounded
		}
		r := f.registered(metadata)
		if r.status != 400 || !strings.HasPrefix(r.text("error"), "invalid_") || r.text("error_description") == "" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	if r := f.post("/register", "application/json", "{"); r.status != 400 {
		t.Errorf("%d %s", r.status, r.body)
	}
	good := newFixture(t, nil).registered(map[string]any{"redirect_uris": []string{"com.example.app:/cb"}})
	if good.status != 201 {
		t.Errorf("a scheme of RFC 8252: %s", good.body)
	}
}

// Registrations and logins are bounded by address, and in all where a proxy may stand
// behind the address.
func TestWhatAnybodyMayDoIsBounded(t *testing.T) {
	register := func(f *fixture) reply {
		return f.registered(map[string]any{"redirect_uris": []string{"https://app.example.com/cb"}})
	}
	ask := func(f *fixture) reply { return f.get("/authorize?" + f.request().Encode()) }
	for name, c := range map[string]struct {
		do          func(*fixture) reply
		from, other string
		least, most int
	}{
		"registrations":            {register, "192.0.2.1:1", "192.0.2.2:1", 10, 40},
		"registrations over IPv6":  {register, "[2001:db8::1]:1", "[2001:db8:0:1::1]:1", 10, 40},
		"registrations by a proxy": {register, "10.0.0.1:1", "", 100, 400},
		"logins":                   {ask, "192.0.2.1:1", "192.0.2.2:1", 60, 240},
	} {
		t.Run(name, func(t *testing.T) {
			f := newInnerFixture(t, store.NewMemory())
			from := func(address string) { f.client.Transport = inner{f.Server, address} }
			from(c.from)
			done := 0
			for got := c.do(f); got.status != http.StatusTooManyRequests; got = c.do(f) {
				if done++; done > c.most {
					t.Fatalf("%d at once", done)
				}
			}
			if done < c.least {
				t.Errorf("only %d at once", done)
			}
			if got := c.do(f); got.header.Get("Retry-After") == "" {
				t.Errorf("does not say when: %v", got.header)
			}
			if c.other == "" {
				return
			}
			if from(c.other); c.do(f).status == http.StatusTooManyRequests {
				t.Error("one caller stops another")
			}
		})
	}
	// Who has a network of addresses has one share.
	f := newInnerFixture(t, store.NewMemory())
	refused := false
	for i := range 100 {
		f.client.Transport = inner{f.Server, fmt.Sprintf("[2001:db8::%x]:1", i+1)}
		refused = refused || register(f).status == http.StatusTooManyRequests
	}
	if !refused {
		t.Error("a hundred addresses of one network have a hundred shares")
	}
}

// documents is a server of client metadata documents, good and hostile.
func documents(t *testing.T, body func(id string) string, header http.Header) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var count atomic.Int32
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		for k, v := range header {
			w.Header()[k] = v
		}
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/client", http.StatusFound)
		case "/huge":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"x":%q}`, strings.Repeat("x", 1<<20))
		case "/html":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, body(s.URL+r.URL.Path))
		case "/missing":
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, body(s.URL+r.URL.Path))
		}
	}))
	t.Cleanup(s.Close)
	return s, &count
}

func document(id string) string {
	return fmt.Sprintf(`{"client_id":%q,"client_name":"Agent","redirect_uris":["https://agent.example/cb"],"token_endpoint_auth_method":"none"}`, id)
}

func TestClientsByDocument(t *testing.T) {
	f := newFixture(t, func(c *authserver.Config) { c.LocalDocuments = true })
	s, count := documents(t, document, http.Header{"Cache-Control": {"max-age=600"}})
	id := s.URL + "/client"
	q := f.request("client_id", id, "redirect_uri", "https://agent.example/cb")
	p, err := f.Pending(t.Context(), f.waiting(q), ada)
	if err != nil || p.Client.Name != "Agent" || p.Client.Verified != strings.TrimPrefix(s.URL, "http://") {
		t.Fatalf("%+v %v", p, err)
	}
	if r := f.redeem(f.allowed(q, ada, "notes:read"), "client_id", id, "redirect_uri", "https://agent.example/cb"); r.status != 200 {
		t.Errorf("%s", r.body)
	}
	if count.Load() != 1 {
		t.Errorf("fetched %d times within its lifetime", count.Load())
	}
}

func TestHostileDocuments(t *testing.T) {
	f := newFixture(t, func(c *authserver.Config) { c.LocalDocuments = true })
	s, _ := documents(t, func(id string) string {
		switch {
		case strings.HasSuffix(id, "/other"):
			return document("https://victim.example/client")
		case strings.HasSuffix(id, "/secret"):
			return strings.Replace(document(id), `"none"`, `"client_secret_post","client_secret":"x"`, 1)
		case strings.HasSuffix(id, "/script"):
			return strings.Replace(document(id), "https://agent.example/cb", "javascript:alert(1)", 1)
		case strings.HasSuffix(id, "/none"):
			return fmt.Sprintf(`{"client_id":%q}`, id)
		case strings.HasSuffix(id, "/array"):
			return "[]"
		}
		return document(id)
	}, nil)
	for _, path := range []string{"/redirect", "/huge", "/html", "/missing", "/other", "/secret", "/script", "/none", "/array", "", "/", "/client?x=1", "/a/../client"} {
		r := f.get("/authorize?" + f.request("client_id", s.URL+path, "redirect_uri", "https://agent.example/cb").Encode())
		if r.status != http.StatusBadRequest || r.header.Get("Location") != "" {
			t.Errorf("%s: %d %s", path, r.status, r.header.Get("Location"))
		}
	}
	// Without leave for loopback no private address is asked.
	strict := newFixture(t, nil)
	for _, id := range []string{s.URL + "/client", "https://127.0.0.1/client", "https://localhost/client", "https://[::1]/c", "https://169.254.169.254/latest", "https://10.0.0.1/c"} {
		if r := strict.get("/authorize?" + strict.request("client_id", id, "redirect_uri", "https://agent.example/cb").Encode()); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", id, r.status)
		}
	}
}
