package authserver_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/store"
)

// FuzzAuthorize sends any query to the authorization endpoint. Whatever it is, the
// browser is sent to our consent page or to what a client registered, to the letter
// but for the port of a loopback address, and nothing breaks.
func FuzzAuthorize(f *testing.F) {
	t := &testing.T{}
	site := newInnerFixture(t, store.NewMemory())
	native := site.registered(map[string]any{"redirect_uris": []string{"http://127.0.0.1:7/cb"}, "token_endpoint_auth_method": "none"}).text("client_id")
	good := site.request()
	f.Add(good.Encode())
	f.Add(site.request("client_id", native, "redirect_uri", "http://127.0.0.1:8/cb").Encode())
	for _, pairs := range [][]string{
		{"redirect_uri", "https://app.example.com@evil.example/cb"}, {"redirect_uri", "https://app.example.com/cb#x"}, {"response_type", "token"},
		{"response_type", "code id_token"}, {"response_mode", "fragment"}, {"request_uri", "https://x.example/r"}, {"prompt", "none"}, {"scope", "x y z"},
		{"resource", "https://stile.example/mcp#"}, {"client_id", "https://127.0.0.1/c"}, {"state", "\r\nSet-Cookie: x=y"}, {"code_challenge", strings.Repeat("!", 43)},
		{"client_id", native, "redirect_uri", "http://127.0.0.1:8@evil.example/cb"}, {"redirect_uri", "%"}, {"claims", "{"}, {"acr_values", "1"},
	} {
		f.Add(site.request(pairs...).Encode())
	}
	f.Fuzz(func(t *testing.T, query string) {
		if len(query) > 1<<14 || strings.Contains(query, "client_id=http") {
			return // documents are not fetched here
		}
		r := httptest.NewRequest(http.MethodGet, "/authorize", nil)
		r.URL.RawQuery, r.RemoteAddr = query, "10.0.0.1:1"
		w := httptest.NewRecorder()
		if site.ServeHTTP(w, r); w.Code == http.StatusTooManyRequests { // another, that is not tired yet
			w, site = httptest.NewRecorder(), newInnerFixture(t, store.NewMemory())
			site.ServeHTTP(w, r)
		}
		if w.Code >= http.StatusInternalServerError {
			t.Fatalf("%q: %d %s", query, w.Code, w.Body)
		}
		location := w.Header().Get("Location")
		if location == "" || strings.HasPrefix(location, "/authserver/consent?request=") {
			return
		}
		u, err := url.Parse(location)
		if err != nil || !registeredPlace(u) || u.Query().Get("iss") != site.url || u.Query().Get("error") == "" || u.Query().Has("code") {
			t.Errorf("%q: sent to %s", query, location)
		}
	})
}

// registeredPlace reports whether an address is one that the clients of FuzzAuthorize
// registered.
func registeredPlace(u *url.URL) bool {
	if u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	at := u.Scheme + "://" + u.Host + u.EscapedPath()
	if at == "https://app.example.com/cb" || at == "http://127.0.0.1/cb" {
		return true
	}
	port, err := netip.ParseAddrPort(u.Host)
	return err == nil && port.Addr() == netip.MustParseAddr("127.0.0.1") && u.Scheme == "http" && u.EscapedPath() == "/cb"
}

// FuzzToken sends any form to the token endpoint, where one code, one refresh token
// and one secret are good. Nothing breaks, nothing may be stored by caches, and
// nobody gets more than was granted.
func FuzzToken(f *testing.F) {
	for _, form := range []url.Values{
		{"grant_type": {"authorization_code"}, "code": {"CODE"}, "client_id": {"app"}, "redirect_uri": {"https://app.example.com/cb"}, "code_verifier": {verifier}},
		{"grant_type": {"refresh_token"}, "refresh_token": {"TOKEN"}, "client_id": {"app"}, "scope": {"notes:read notes:admin"}},
		{"grant_type": {"refresh_token"}, "refresh_token": {"TOKEN"}, "client_id": {"app"}, "scope": {" notes:read  notes:read "}},
		{"grant_type": {"client_credentials"}, "client_id": {"resource"}, "client_secret": {"s3cret"}, "scope": {"notes:admin"}},
		{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {"e30.e30.e30"}}, {"grant_type": {"password"}},
		{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {"TOKEN"}, "client_id": {"app"}},
	} {
		f.Add(form.Encode())
	}
	f.Fuzz(func(t *testing.T, form string) {
		if strings.Contains(form, "client_id=http") {
			return
		}
		site := newInnerFixture(t, store.NewMemory())
		if strings.Contains(form, "CODE") {
			form = strings.ReplaceAll(form, "CODE", url.QueryEscape(site.allowed(site.request(), ada, "notes:read")))
		}
		if strings.Contains(form, "TOKEN") {
			got := site.redeem(site.allowed(site.request(), ada, "notes:read"))
			form = strings.ReplaceAll(form, "TOKEN", url.QueryEscape(got.text("refresh_token")))
		}
		got := site.post("/token", "application/x-www-form-urlencoded", form)
		if got.status >= http.StatusInternalServerError || !strings.Contains(got.header.Get("Cache-Control"), "no-store") {
			t.Fatalf("%q: %d %v %s", form, got.status, got.header, got.body)
		}
		if token := got.text("access_token"); token != "" {
			if _, c := claims(t, token); c["scope"] != "notes:read" || c["client_id"] != "app" {
				t.Errorf("%q: %v", form, c)
			}
		} else if got.text("error") == "" {
			t.Errorf("%q: %d %s", form, got.status, got.body)
		}
	})
}
