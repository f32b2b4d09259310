package authenticate_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authenticate"
)

// shown is what a description may be made of, and what it may not be: empty.
var shown = regexp.MustCompile(`^[A-Za-z0-9 ._:/-]+$`)

func checkDescription(t *testing.T, e *authenticate.Error) {
	t.Helper()
	if !shown.MatchString(e.Description) {
		t.Errorf("description %q has characters that must not be shown", e.Description)
	}
	if e.Kind == authenticate.Unavailable && e.RetryAfter < 1e9 {
		t.Errorf("RetryAfter %v, want at least a second", e.RetryAfter)
	}
}

func post(target string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

var bearerTests = []struct {
	name    string
	query   string
	headers []string
	token   string
	kind    authenticate.Kind
}{
	{name: "plain", headers: []string{"Authorization", "Bearer abc"}, token: "abc"},
	{name: "lower case", headers: []string{"Authorization", "bearer abc"}, token: "abc"},
	{name: "upper case", headers: []string{"Authorization", "BEARER abc"}, token: "abc"},
	{name: "several spaces", headers: []string{"Authorization", "Bearer   abc"}, token: "abc"},
	{name: "every character", headers: []string{"Authorization", "Bearer aZ09-._~+/=="}, token: "aZ09-._~+/=="},
	{name: "longest", headers: []string{"Authorization", "Bearer " + strings.Repeat("a", authenticate.MaxToken)}, token: strings.Repeat("a", authenticate.MaxToken)},
	{name: "other query", query: "access_tokens=1&token=2", headers: []string{"Authorization", "Bearer abc"}, token: "abc"},
	{name: "query of escapes", query: "%zz=1&;&=", headers: []string{"Authorization", "Bearer abc"}, token: "abc"},

	{name: "nothing", kind: authenticate.Missing},
	{name: "cookie only", headers: []string{"Cookie", "access_token=abc"}, kind: authenticate.Missing},
	{name: "key only", headers: []string{"X-API-Key", "abc"}, kind: authenticate.Missing},

	{name: "basic", headers: []string{"Authorization", "Basic YTpi"}, kind: authenticate.Invalid},
	{name: "DPoP", headers: []string{"Authorization", "DPoP abc"}, kind: authenticate.Invalid},
	{name: "raw token", headers: []string{"Authorization", "abc"}, kind: authenticate.Invalid},
	{name: "no space", headers: []string{"Authorization", "Bearerabc"}, kind: authenticate.Invalid},

	{name: "empty header", headers: []string{"Authorization", ""}, kind: authenticate.Malformed},
	{name: "scheme only", headers: []string{"Authorization", "Bearer"}, kind: authenticate.Malformed},
	{name: "spaces only", headers: []string{"Authorization", "Bearer   "}, kind: authenticate.Malformed},
	{name: "leading space", headers: []string{"Authorization", " Bearer abc"}, kind: authenticate.Malformed},
	{name: "tab", headers: []string{"Authorization", "Bearer\tabc"}, kind: authenticate.Malformed},
	{name: "tab after space", headers: []string{"Authorization", "Bearer \tabc"}, kind: authenticate.Malformed},
	{name: "trailing space", headers: []string{"Authorization", "Bearer abc "}, kind: authenticate.Malformed},
	{name: "two tokens", headers: []string{"Authorization", "Bearer abc def"}, kind: authenticate.Malformed},
	{name: "list", headers: []string{"Authorization", "Bearer abc, Bearer def"}, kind: authenticate.Malformed},
	{name: "parameters", headers: []string{"Authorization", `Bearer token="abc"`}, kind: authenticate.Malformed},
	{name: "equals only", headers: []string{"Authorization", "Bearer =="}, kind: authenticate.Malformed},
	{name: "equals inside", headers: []string{"Authorization", "Bearer a=b"}, kind: authenticate.Malformed},
	{name: "not ASCII", headers: []string{"Authorization", "Bearer abcé"}, kind: authenticate.Malformed},
	{name: "NUL", headers: []string{"Authorization", "Bearer abc\x00"}, kind: authenticate.Malformed},
	{name: "scheme with a dotless i", headers: []string{"Authorization", "Beare\u0280 abc"}, kind: authenticate.Malformed},
	{name: "too long", headers: []string{"Authorization", "Bearer " + strings.Repeat("a", authenticate.MaxToken+1)}, kind: authenticate.Malformed},
	{name: "17 KiB", headers: []string{"Authorization", "Bearer " + strings.Repeat("a", 17<<10)}, kind: authenticate.Malformed},
	{name: "twice", headers: []string{"Authorization", "Bearer abc", "Authorization", "Bearer abc"}, kind: authenticate.Malformed},
	{name: "twice, one empty", headers: []string{"Authorization", "Bearer abc", "Authorization", ""}, kind: authenticate.Malformed},
	{name: "with a key", headers: []string{"Authorization", "Bearer abc", "X-API-Key", "k"}, kind: authenticate.Malformed},
	{name: "query", query: "access_token=abc", kind: authenticate.Malformed},
	{name: "query, empty", query: "a=b&access_token", kind: authenticate.Malformed},
	{name: "query beside header", query: "access_token=abc", headers: []string{"Authorization", "Bearer abc"}, kind: authenticate.Malformed},
	{name: "query, escaped", query: "access%5Ftoken=abc", headers: []string{"Authorization", "Bearer abc"}, kind: authenticate.Malformed},
	{name: "query, other case", query: "Access_Token=abc", kind: authenticate.Malformed},
	{name: "query after a semicolon", query: "a;access_token=abc", kind: authenticate.Malformed},
	{name: "query with a bad escape", query: "access_token=%zz", kind: authenticate.Malformed},
	{name: "query with a space", query: "+access_token=a", kind: authenticate.Malformed},
}

func TestBearer(t *testing.T) {
	for _, tt := range bearerTests {
		t.Run(tt.name, func(t *testing.T) {
			r := post("http://gw.example/mcp", tt.headers...)
			r.URL.RawQuery = tt.query
			token, err := authenticate.Bearer(r)
			if tt.kind == 0 {
				if err != nil || token != tt.token {
					t.Fatalf("got %q, %v; want %q", token, err, tt.token)
				}
				return
			}
			if err == nil || err.Kind != tt.kind || token != "" {
				t.Fatalf("got %q, %+v; want kind %d", token, err, tt.kind)
			}
			checkDescription(t, err)
		})
	}
}

var grammar = regexp.MustCompile(`^(?i:bearer) +([A-Za-z0-9._~+/-]+=*)$`)

// The token is exactly what the grammar of RFC 6750 finds in the header, and
// there is one only where the query has none.
func FuzzBearer(f *testing.F) {
	for _, tt := range bearerTests {
		if len(tt.headers) == 2 && tt.headers[0] == "Authorization" {
			f.Add(tt.headers[1], tt.query)
		}
	}
	f.Fuzz(func(t *testing.T, header, query string) {
		r := &http.Request{Header: http.Header{"Authorization": {header}}, URL: &url.URL{RawQuery: query}}
		token, err := authenticate.Bearer(r)
		want := ""
		if m := grammar.FindStringSubmatch(header); m != nil && len(m[1]) <= authenticate.MaxToken {
			want = m[1]
		}
		if values, _ := url.ParseQuery(query); values.Has("access_token") {
			want = ""
		}
		if (err == nil) != (token != "") {
			t.Fatalf("token %q and error %v", token, err)
		}
		if err != nil {
			checkDescription(t, err)
			if want != "" && !strings.Contains(strings.ToLower(query), "token") && !strings.Contains(query, "%") {
				t.Fatalf("%q refused: %v", header, err)
			}
			return
		}
		if token != want {
			t.Fatalf("token %q from %q and query %q, want %q", token, header, query, want)
		}
	})
}
