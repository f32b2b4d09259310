package interop_test

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// TestAuthorizationConformance runs the suite's scenarios for authorization servers
// against the embedded one: both pass, without a warning.
func TestAuthorizationConformance(t *testing.T) {
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, policy: notesPolicy, options: strings.Join([]string{
		"authserver:",
		"  clients:",
		"    - id: conformance",
		"      redirect_uris: [http://127.0.0.1/callback]",
	}, "\n")})
	r := newReader(t)
	r.makeAccount(g.program.line("/authserver/setup?token="))
	callback := freeAddress(t)
	results := t.TempDir()
	issuer := strings.TrimSuffix(g.endpoint, "/mcp")
	var told struct {
		Scopes []string `json:"scopes_supported"`
	}
	getJSON(t, issuer+"/.well-known/oauth-authorization-server", &told)
	for _, one := range []string{"notes:read", "notes:write", "notes:index", "notes:summarise"} {
		if !slices.Contains(told.Scopes, one) {
			t.Errorf("the metadata lists %v, not the policy's %s", told.Scopes, one)
		}
	}
	run := start(t, nil, node(t), "--require", "./conformance/globsync.cjs", suite+"/dist/index.js", "authorization",
		"--url", issuer, "--client-id", "conformance", "--port", callback[strings.LastIndex(callback, ":")+1:], "--output-dir", results)
	request := run.line(issuer + "/authorize?")
	run.line("Callback server started")
	r.allow(request)
	run.line("Total:")
	found := verdicts{}
	files, err := filepath.Glob(filepath.Join(results, "*", "checks.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		found[name] = readChecks(t, file)
	}
	if len(found) != 2 {
		t.Fatalf("%d scenarios ran, want 2: %v", len(found), found)
	}
	for name, v := range found {
		if len(v.failures)+len(v.warnings) > 0 || len(v.checks) == 0 {
			t.Errorf("%s: %v", name, v)
		}
		for _, check := range v.checks {
			if !strings.HasSuffix(check, " SUCCESS") {
				t.Errorf("%s: %s", name, check)
			}
		}
	}
}

// reader is somebody at the pages of the authorization server, with a browser that
// has cookies and forms and nothing else.
type reader struct {
	t      *testing.T
	client *http.Client
	at     *url.URL
	page   string
}

func newReader(t *testing.T) *reader {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &reader{t: t, client: &http.Client{Jar: jar}}
}

// link is the address in a line of a terminal.
func link(line string) string {
	if at := strings.Index(line, "http"); at >= 0 {
		line = line[at:]
	}
	return strings.TrimSpace(line)
}

func (r *reader) open(address string) {
	r.t.Helper()
	response, err := r.client.Get(address)
	r.read(response, err)
}

func (r *reader) read(response *http.Response, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s\n%s", response.Request.URL, response.Status, body)
	}
	r.at, r.page = response.Request.URL, string(body)
}

var (
	action  = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	field   = regexp.MustCompile(`<input type="(?:hidden|checkbox)"[^>]* ?name="([^"]*)" value="([^"]*)"`)
	refresh = regexp.MustCompile(`http-equiv="refresh" content="0;url=([^"]*)"`)
)

// submit sends the first form of the page as it stands, with more fields.
func (r *reader) submit(pairs ...string) {
	r.t.Helper()
	to := action.FindStringSubmatch(r.page)
	if to == nil {
		r.t.Fatalf("no form at %s:\n%s", r.at, r.page)
	}
	whole, _, _ := strings.Cut(r.page[strings.Index(r.page, to[0]):], "</form>")
	form := url.Values{}
	for _, one := range field.FindAllStringSubmatch(whole, -1) {
		form.Add(html.UnescapeString(one[1]), html.UnescapeString(one[2]))
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	target, err := r.at.Parse(html.UnescapeString(to[1]))
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := r.client.PostForm(target.String(), form)
	r.read(response, err)
}

// makeAccount makes the first account with the link that a terminal showed, and is
// signed in then.
func (r *reader) makeAccount(line string) {
	r.t.Helper()
	r.open(link(line))
	r.submit("username", somebody, "password", password, "again", password)
}

// allow opens an authorization request and allows all it asks for; the answer is
// delivered to the client.
func (r *reader) allow(line string) {
	r.t.Helper()
	r.open(r.answer(link(line)))
}

// answer allows all that an authorization request asks for, and returns where the
// answer goes.
func (r *reader) answer(address string) string {
	r.t.Helper()
	r.open(address)
	r.submit("decision", "allow")
	back := refresh.FindStringSubmatch(r.page)
	if back == nil {
		r.t.Fatalf("nothing leads back to the client:\n%s", r.page)
	}
	return html.UnescapeString(back[1])
}
