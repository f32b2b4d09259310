package pages_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authserver/pages"
)

func draw(t *testing.T, p pages.Page) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := pages.Write(w, http.StatusOK, p); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestEveryPageIsComplete(t *testing.T) {
	label := regexp.MustCompile(`<input id="([^"]+)"`)
	for name, view := range views {
		t.Run(name, func(t *testing.T) {
			w := draw(t, view)
			body := w.Body.String()
			for _, want := range []string{`<html lang="en">`, "<title>", "<main>", `name="viewport"`, pages.StylePath, "</html>"} {
				if !strings.Contains(body, want) {
					t.Errorf("has no %s", want)
				}
			}
			if n := strings.Count(body, "<h1>"); n != 1 {
				t.Errorf("%d first headings", n)
			}
			if strings.Contains(body, "<script") || strings.Contains(body, "style=") {
				t.Error("needs a script or an inline style, which its policy forbids")
			}
			for _, m := range label.FindAllStringSubmatch(body, -1) {
				if !strings.Contains(body, `<label for="`+m[1]+`"`) {
					t.Errorf("input %s has no label", m[1])
				}
			}
		})
	}
}

func TestHeadersOfPages(t *testing.T) {
	h := draw(t, views["consent-first"]).Header()
	for name, want := range map[string]string{
		"Cache-Control":           "no-store",
		"Content-Type":            "text/html; charset=utf-8",
		"Referrer-Policy":         "same-origin",
		"X-Content-Type-Options":  "nosniff",
		"X-Frame-Options":         "DENY",
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := h.Get("Cross-Origin-Opener-Policy"); got != "" {
		t.Errorf("Cross-Origin-Opener-Policy: %s takes its opener from a window that a client has opened", got)
	}
}

// Names of clients and descriptions come from strangers.
func TestTextOfStrangersIsText(t *testing.T) {
	const evil = `<script>alert(1)</script>"onmouseover="x`
	strange := []pages.Page{
		pages.SignIn{Server: evil, Client: evil, Name: evil, Mistake: evil, Accounts: true, Action: "/", Provider: &pages.Provider{Name: evil, URL: evil}},
		pages.Consent{Client: evil, Verified: evil, RedirectHost: evil, Server: evil, Operation: evil, Person: evil, SwitchAction: "/",
			New: []pages.Scope{{Name: evil, Description: evil, Refusable: true}, {Name: evil}}, Granted: []pages.Scope{{Name: evil}},
			Fields: []pages.Field{{Name: evil, Value: evil}}},
		pages.Grants{Person: evil, Said: evil, Grants: []pages.Grant{{Client: evil, Server: evil, Scopes: []pages.Scope{{Name: evil}}}}},
		pages.Message{Title: evil, Text: evil, Next: evil, ID: evil},
	}
	for _, p := range strange {
		body := draw(t, p).Body.String()
		if strings.Contains(body, "<script") || strings.Contains(body, `"onmouseover`) {
			t.Errorf("%T: text got out of its place:\n%s", p, body)
		}
		if !strings.Contains(body, "&lt;script&gt;") {
			t.Errorf("%T: the text is not shown at all", p)
		}
	}
}

func TestConsentTellsWhatIsNew(t *testing.T) {
	body := draw(t, views["consent-step-up"]).Body.String()
	news, rest, found := strings.Cut(body, "You allowed before")
	if !found {
		t.Fatal("does not show what was allowed before")
	}
	for _, want := range []string{"New in this request", "delete_note", "notes:write", "Create, change and delete notes",
		`type="hidden" name="scope" value="notes:write"`, `type="checkbox" id="scope-1" name="scope" value="notes:export" checked`, "not verified"} {
		if !strings.Contains(news, want) {
			t.Errorf("what is new lacks %q", want)
		}
	}
	if !strings.Contains(rest, "notes:read") || strings.Contains(news, "notes:read") {
		t.Error("a scope granted before stands in the wrong place")
	}
	if first := draw(t, views["consent-first"]).Body.String(); strings.Contains(first, "You allowed before") || !strings.Contains(first, "verified by claude.ai") {
		t.Errorf("first login:\n%s", first)
	}
}

func TestStyleIsServed(t *testing.T) {
	w := httptest.NewRecorder()
	pages.Style(w, httptest.NewRequest(http.MethodGet, pages.StylePath, nil))
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/css") {
		t.Errorf("%d %s", w.Code, w.Header().Get("Content-Type"))
	}
}

func TestLeave(t *testing.T) {
	for address, allowed := range map[string]bool{
		"https://claude.ai/callback?code=1&state=2": true, "http://127.0.0.1:3334/cb?code=x": true,
		"cursor://anysphere.cursor-mcp/oauth?code=x": true, "com.example.app:/callback?code=x": true,
		"javascript:alert(1)": false, "JavaScript:alert(1)": false, "data:text/html,x": false, "vbscript:x": false, "file:///etc/passwd": false,
		"blob:https://x/y": false, "/relative": false, "": false, "https:///nohost": false, "https://x/\"><script>": false, "https://x/ y": false,
	} {
		w := httptest.NewRecorder()
		err := pages.Write(w, http.StatusOK, pages.Leave{Client: "Claude", URL: address})
		if (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
		if !allowed {
			if w.Body.Len() > 0 {
				t.Errorf("%s: wrote %s", address, w.Body)
			}
			continue
		}
		escaped := strings.ReplaceAll(address, "&", "&amp;")
		for _, want := range []string{`content="0;url=` + escaped + `"`, `href="` + escaped + `"`} {
			if body := w.Body.String(); !strings.Contains(body, want) {
				t.Errorf("%s: no %s in\n%s", address, want, body)
			}
		}
	}
}

func TestConsentWithoutAnythingToAllow(t *testing.T) {
	body := draw(t, views["consent-barred"]).Body.String()
	if strings.Contains(body, `value="allow"`) || !strings.Contains(body, "Not yours to allow") || !strings.Contains(body, `value="deny"`) {
		t.Error(body)
	}
}
