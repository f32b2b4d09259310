package interop_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/authserver/portal/portaltest"
	"github.com/stile-mcp/stile/authserver/provider"
)

const (
	somebody = "ada"
	password = "correct horse battery"
)

// The scopes that are asked for below.
var (
	readNotes   = portal.Scope{Name: "notes:read", Description: "Read your notes and search in them", Needed: true}
	writeNotes  = portal.Scope{Name: "notes:write", Description: "Create and change notes", Needed: true}
	exportNotes = portal.Scope{Name: "notes:export", Description: "Take your notes out as a file"}
)

// visitor is somebody with a browser at a portal.
type visitor struct {
	*browser
	site *portaltest.Site
	back string // where the client takes answers
}

// newVisitor is somebody who was never here.
func newVisitor(t *testing.T, change func(*portal.Config)) *visitor {
	t.Helper()
	return &visitor{site: portaltest.NewSite(t, change), back: startCallback(t), browser: startBrowser(t)}
}

// startVisit makes the first account as its owner does: with the printed link.
func startVisit(t *testing.T) *visitor {
	t.Helper()
	v := newVisitor(t, nil)
	link, err := v.site.Portal.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.open(link)
	v.heading("Create your account")
	v.look("setup")
	v.fill("username", somebody)
	v.fill("password", password)
	v.fill("again", password)
	v.click("Create account")
	v.heading("Your grants")
	v.mustSay("Your account is made", "You have allowed nothing yet")
	return v
}

// startCallback is a client's callback that redirects once more, to another
// origin, as real ones do: a content policy of ours must not stop that.
func startCallback(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			http.Redirect(w, r, "http://"+strings.Replace(r.Host, "127.0.0.1", "localhost", 1)+"/done?"+r.URL.RawQuery, http.StatusSeeOther)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>back</title><h1>Back in the program</h1>")
	}))
	t.Cleanup(server.Close)
	return server.URL + "/callback"
}

// request opens what a program that wants these scopes opens.
func (v *visitor) request(operation string, scopes ...portal.Scope) {
	v.t.Helper()
	v.site.Core.Ask(portal.Request{Client: portal.Client{Name: "Example Agent"}, RedirectURI: v.back, Server: "Notes", Operation: operation, Scopes: scopes})
	v.open(v.site.URL + "/authorize")
}

// returned waits until the browser is back in the program, and checks what was
// allowed last; "" stands for a refusal.
func (v *visitor) returned(want string) {
	v.t.Helper()
	v.heading("Back in the program")
	address, log := evaluate[string](v.browser, "location.href"), v.site.Core.Log()
	if want == "" {
		if !strings.Contains(address, "error=access_denied") || log.Refused == 0 {
			v.t.Errorf("came back to %s, refused %d", address, log.Refused)
		}
		return
	}
	if len(log.Allowed) == 0 || strings.Join(log.Allowed[len(log.Allowed)-1], " ") != want || !strings.Contains(address, "code=") {
		v.t.Errorf("came back to %s, allowed %v, want %s", address, log.Allowed, want)
	}
}

// TestConsentInABrowser goes from the first account over the first login and a
// step-up to the list of grants, and ends there what was allowed.
func TestConsentInABrowser(t *testing.T) {
	v := startVisit(t)
	v.request("", readNotes)
	v.heading("Example Agent asks for access")
	v.mustSay("not verified", "a program on this device", "Read your notes and search in them", somebody)
	v.look("consent-first-login")
	v.click("Allow")
	v.returned("notes:read")

	v.request("create_note", readNotes, writeNotes, exportNotes)
	v.heading("Example Agent asks for more")
	v.mustSay("New in this request", "Create and change notes", "Needed for create_note", "You allowed before")
	v.look("consent-step-up")
	v.click("Allow")
	v.returned("notes:read notes:write notes:export")

	v.open(v.site.URL + "/authserver/grants")
	v.heading("Your grants")
	v.mustSay("Example Agent", "Read your notes and search in them", "Create and change notes", "since 25 November 2026")
	v.look("grants")
	v.click("Revoke")
	v.see(".said")
	v.mustSay("The access of Example Agent was revoked.", "You have allowed nothing yet")
	if log := v.site.Core.Log(); len(log.Revoked) != 1 {
		t.Errorf("revoked %v", log.Revoked)
	}
}

func TestRefusalInABrowser(t *testing.T) {
	v := startVisit(t)
	v.request("create_note", readNotes, writeNotes, exportNotes)
	v.click("Refuse")
	v.returned("")
	// A part may be refused too.
	v.request("create_note", readNotes, writeNotes, exportNotes)
	v.heading("Example Agent asks for access")
	v.click("Take your notes out")
	v.click("Allow")
	v.returned("notes:read notes:write")
}

// TestKeyboardOnly signs in and consents without a pointer: every step is reached
// by Tab, seen to have the focus, and taken by Enter or Space.
func TestKeyboardOnly(t *testing.T) {
	v := startVisit(t)
	v.tabTo("Sign out")
	v.press(kb.Enter)
	v.heading("Sign in")
	v.request("create_note", writeNotes, exportNotes)
	v.heading("Sign in")
	v.look("sign-in")
	if v.focused() != "username" {
		t.Errorf("the page opens with the focus at %q", v.focused())
	}
	v.press(somebody)
	v.tabTo("password")
	v.press("wrong password" + kb.Enter)
	v.see("#mistake")
	v.look("")
	if v.focused() != "password" {
		t.Errorf("after a mistake the focus is at %q", v.focused())
	}
	v.press(password + kb.Enter)
	v.heading("Example Agent asks for access")
	v.tabTo("scope-1")
	v.press(" ")
	v.tabTo("Allow")
	v.press(kb.Enter)
	v.returned("notes:write")
}

// TestSignInThroughAProvider signs alice in at npm oidc-provider, whose userinfo
// tells her address and groups, and lets her allow what her group may.
func TestSignInThroughAProvider(t *testing.T) {
	as := startIssuer(t, `CLAIMS={"email":"alice@example.com","email_verified":true,"groups":["staff"]}`)
	v := newVisitor(t, func(c *portal.Config) {
		c.Accounts, c.Provider = nil, registerAt(t, as, c.PublicURL+portal.PathCallback, "@example.com")
	})
	v.request("create_note", readNotes, writeNotes)
	v.heading("Sign in")
	v.click("Sign in with")
	v.heading("Example Agent asks for access")
	v.mustSay("alice@example.com", "Not yours to allow", "Create and change notes")
	v.click("Allow")
	v.returned("notes:read")
	who := v.site.Core.Log().Who[0].Subject

	// Who comes again is the same person.
	v.request("", readNotes)
	v.click("Not alice@example.com?")
	v.heading("Sign in")
	v.click("Sign in with")
	v.heading("Example Agent asks for access again")
	v.click("Allow")
	v.returned("notes:read")
	if again := v.site.Core.Log().Who[1].Subject; again != who {
		t.Errorf("alice was %s, and is %s", who, again)
	}

	// Whoever is not on a list is known to the provider, and not let in.
	stranger := newVisitor(t, func(c *portal.Config) {
		c.Accounts, c.Provider = nil, registerAt(t, as, c.PublicURL+portal.PathCallback, "@example.org")
	})
	stranger.request("", readNotes)
	stranger.click("Sign in with")
	stranger.heading("You may not sign in here")
	stranger.look("")
}

// registerAt makes Stile a client of an issuer, with a secret.
func registerAt(t *testing.T, as *issuer, callback, allow string) *provider.Provider {
	t.Helper()
	id, secret := registerClient(t, as, callback)
	p, err := provider.New(provider.Config{Issuer: as.url, ClientID: id, ClientSecret: secret, RedirectURL: callback,
		AllowEmails: []string{allow}, Groups: map[string][]string{"staff": {"notes:read"}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func registerClient(t *testing.T, as *issuer, callback string) (id, secret string) {
	t.Helper()
	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	as.post(t, "/reg", "application/json", `{"redirect_uris":["`+callback+`"],"application_type":"native",`+
		`"token_endpoint_auth_method":"client_secret_basic","grant_types":["authorization_code"]}`, &client)
	return client.ID, client.Secret
}
