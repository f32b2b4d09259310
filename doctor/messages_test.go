package doctor_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stile-mcp/stile/doctor"
	"github.com/stile-mcp/stile/stiletest"
)

// issuerOptions are those of the issuers beside servers with one thing wrong.
var issuerOptions = map[string]stiletest.IssuerOptions{
	"issuer-only-openid":     {Path: "/acme", Discovery: []string{stiletest.DiscoveryOIDCAppended}},
	"login-resource-refused": {Resources: []string{"https://else.example/mcp"}},
	"login-scope-refused":    {Consent: refuseAll("invalid_scope")},
	"login-less":             {Consent: consentTo("other")},
	"login-iss-unadvertised": {Metadata: map[string]any{"authorization_response_iss_parameter_supported": false}},
	"login-failed":           {Consent: refuseAll("access_denied")},
	"step-up-login-failed":   {Consent: refuseWriting},
	"step-up-failed":         {Consent: consentTo("notes:read")},
	"step-up-lost":           {Consent: consentToLast},
	"refresh-trap":           {RefreshTokens: true},
}

// spoiledMessages are servers that take messages they should not.
var spoiledMessages = map[string]func(p *patient){
	"redirect": func(p *patient) {
		p.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/mcp" {
				return false
			}
			http.Redirect(w, r, "/mcp/", http.StatusPermanentRedirect)
			return true
		}
	},
	"probe-differs": func(p *patient) {
		p.after = func(r *http.Request, a *httptest.ResponseRecorder) {
			if r.Method == http.MethodHead {
				rewrite(401, "WWW-Authenticate", replace("notes:read", "notes:write"))(r, a)
			}
		}
	},
	"metadata-appended": challenge(401, replace("/.well-known/oauth-protected-resource/mcp", "/mcp/.well-known/oauth-protected-resource")),
	"metadata-root": func(p *patient) {
		p.before = answerJSON(func(r *http.Request) bool { return r.URL.Path == "/.well-known/oauth-protected-resource" },
			func() string {
				return `{"resource":"` + p.origin + `","authorization_servers":["https://else.example"]}`
			})
	},
	"metadata-preflight": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool { return r.Method == http.MethodOptions && isMetadata(r) }, http.StatusMethodNotAllowed)
	},

	"issuer-only-openid":       func(*patient) {},
	"issuer-no-cors":           func(*patient) {},
	"issuer-no-code":           issuer(ownIssuer, map[string]any{"grant_types_supported": []string{"client_credentials"}}),
	"issuer-resource-unlisted": issuer(ownIssuer, map[string]any{"protected_resources": []string{"https://else.example/mcp"}}),
	"issuer-documents-differ": func(p *patient) {
		issuer(ownIssuer, nil)(p)
		serve := p.before
		openid := answerJSON(func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/.well-known/openid-configuration/") },
			func() string {
				return `{"issuer":"` + ownIssuer(p) + `","authorization_endpoint":"` + p.origin + `/else"}`
			})
		p.before = func(w http.ResponseWriter, r *http.Request) bool { return openid(w, r) || serve(w, r) }
	},

	"cors-star-credentials": toPages(func(h http.Header) {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Credentials", "true")
	}),
	"cors-no-vary":      toPages(func(h http.Header) { h.Del("Vary") }),
	"preflight-methods": toPages(func(h http.Header) { h.Set("Access-Control-Allow-Methods", "POST") }),
	"origin-any":        func(p *patient) { p.options = elsewhere },

	"body-stranger": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			return false
		}
	},
	"body-unlimited": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.ContentLength > 1<<20 && r.Header.Get("Authorization") != "" {
				body := strings.TrimSpace(peek(r))
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			}
			return false
		}
	},

	"session-missing": func(p *patient) {
		p.before = answerJSON(func(r *http.Request) bool {
			return r.Header.Get("Mcp-Session-Id") == "" && r.Header.Get("Mcp-Protocol-Version") == "2025-11-25" && strings.Contains(peekSmall(r), "tools/list")
		}, result)
	},
	"session-without-token": func(p *patient) {
		p.before = answerJSON(func(r *http.Request) bool {
			return r.Method == http.MethodGet && r.Header.Get("Mcp-Session-Id") != "" && r.Header.Get("Authorization") == ""
		}, result)
	},
	"session-characters": func(p *patient) {
		p.after = rewrite(200, "Mcp-Session-Id", func(string) []string { return []string{"the session of alice"} })
	},
	"session-guessable": func(p *patient) {
		p.after = rewrite(200, "Mcp-Session-Id", func(string) []string { return []string{"4711"} })
	},
	"session-not-ended": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool { return r.Method == http.MethodDelete }, http.StatusOK)
	},
	"session-modern": func(p *patient) {
		p.after = func(r *http.Request, a *httptest.ResponseRecorder) {
			if r.Header.Get("Mcp-Method") == "server/discover" && a.Code == http.StatusOK {
				a.Header().Set("Mcp-Session-Id", "one-that-should-not-be")
			}
		}
	},
	"batch-accepted": func(p *patient) {
		p.before = answerJSON(func(r *http.Request) bool { return r.Method == http.MethodPost && strings.HasPrefix(peekSmall(r), "[") }, result)
	},
	"media-type": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Content-Type") == "text/plain" {
				r.Header.Set("Content-Type", "application/json")
			}
			return false
		}
	},

	"header-missing": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Mcp-Protocol-Version") == "2026-07-28" && r.Header.Get("Mcp-Method") == "" {
				r.Header.Set("Mcp-Method", "server/discover")
			}
			return false
		}
	},
	"header-name": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Mcp-Name") == "stile-doctor-something" {
				r.Header.Set("Mcp-Name", "stile-doctor-nothing")
			}
			return false
		}
	},
	"version-mismatch": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Mcp-Method") != "" {
				r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
			}
			return false
		}
	},
	"version-unknown": func(p *patient) {
		p.before = answerJSON(func(r *http.Request) bool { return r.Header.Get("Mcp-Protocol-Version") == "2099-01-01" }, result)
	},
	"method-unknown": func(p *patient) {
		p.before = answerJSON(func(r *http.Request) bool { return r.Header.Get("Mcp-Method") == "stile-doctor/nothing" }, func() string {
			return `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}`
		})
	},
}

func result() string { return `{"jsonrpc":"2.0","id":1,"result":{}}` }

// toPages spoils the answers to preflights.
func toPages(f func(http.Header)) func(*patient) {
	return func(p *patient) {
		p.after = func(r *http.Request, a *httptest.ResponseRecorder) {
			if r.Method == http.MethodOptions && r.URL.Path == "/mcp" {
				f(a.Header())
			}
		}
	}
}

// peekSmall reads a body that is not one of those that are too long, and puts it back.
func peekSmall(r *http.Request) string {
	if r.ContentLength > 1<<20 {
		return ""
	}
	return peek(r)
}

// elsewhere examines a server that is not on this machine, as far as the doctor knows.
func elsewhere(t *testing.T, o doctor.Options) doctor.Options {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer good" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, result())
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer scope="notes:read"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	o.URL, o.RootCAs, o.Token, o.Call = "https://example.com/mcp", roots, "good", nil
	return doctor.WithDial(o, func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	})
}

// A server that does not answer is not waited for again and again.
func TestSlowServer(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{})
	var asked atomic.Int32
	p.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/mcp" || asked.Add(1) < 3 {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body) // before that nobody notices who goes away
		<-r.Context().Done()
		return true
	}
	p.options = func(_ *testing.T, o doctor.Options) doctor.Options { o.Timeout = 500 * time.Millisecond; return o }
	r := p.examine(t)
	if n := asked.Load(); n > 8 || !slices.ContainsFunc(r.NotTried, func(s string) bool { return strings.Contains(s, "three requests") }) {
		t.Errorf("%d requests, not tried: %q", n, r.NotTried)
	}
}

// The steps are told as they were taken.
func TestReportOfAnOpenServer(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{})
	spoiled["open"](p)
	p.person = new(person)
	r := p.examine(t)
	var text bytes.Buffer
	if err := r.WriteText(&text, true); err != nil {
		t.Fatal(err)
	}
	if len(p.person.requests()) > 0 || !strings.Contains(text.String(), "did not ask for one") {
		t.Errorf("%d logins\n%s", len(p.person.requests()), &text)
	}
	if !strings.Contains(text.String(), "\x1b[31;1merror") {
		t.Errorf("no colours:\n%s", &text)
	}
	for _, v := range r.Clients {
		if v.Finish != "yes" {
			t.Errorf("%s: %s", v.Class, fmt.Sprint(v))
		}
	}
}
