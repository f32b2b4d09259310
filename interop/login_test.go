package interop_test

import (
	"context"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/stiletest"
)

// describedNotes are the further lines of a configuration that say what scopes mean.
const describedNotes = `
scopes:
  descriptions:
    notes:read: Read your notes and search in them
    notes:write: Create and change notes
`

// home is a gateway with the embedded authorization server, and somebody with an
// account and a browser.
type home struct {
	*gateway
	*browser
	dataDir string
}

// startHome makes the first account as its owner does: with the printed link.
func startHome(t *testing.T) home {
	t.Helper()
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	h := home{dataDir: t.TempDir(), browser: startBrowser(t)}
	h.gateway = startStile(t, stileConfig{upstream: notes.URL, policy: notesPolicy, options: describedNotes, dataDir: h.dataDir})
	link := h.program.line("/authserver/setup?token=")
	h.open(link[strings.Index(link, "http://"):])
	h.heading("Create your account")
	h.fill("username", somebody)
	h.fill("password", password)
	h.fill("again", password)
	h.click("Create account")
	h.heading("Your grants")
	return h
}

// user runs stile user on the data_dir that the gateway uses.
func (h home) user(stdin string, args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.program.cmd.Path, append([]string{"user", "--data-dir", h.dataDir}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	said, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("stile user %s: %v\n%s", args, err, said)
	}
	return string(said)
}

// allow has the person allow what an app asks for.
func (h home) allow(a *app, scope string) granted {
	h.t.Helper()
	h.open(a.authorize(scope))
	h.click("Allow")
	h.heading("Back in Example Agent")
	return a.redeem(a.answer())
}

// mustEnd waits until a token is refused: a revocation is noticed within seconds.
func (a *app) mustEnd(token string) {
	a.t.Helper()
	again, limit := time.NewTicker(200*time.Millisecond), time.After(runLimit)
	defer again.Stop()
	for {
		status, _ := a.call(token, "list_notes", `{}`)
		if status == http.StatusUnauthorized {
			return
		}
		select {
		case <-again.C:
		case <-limit:
			a.t.Fatalf("the token still opens: %d", status)
		}
	}
}

// TestStepUpInABrowser goes the whole way with the real binary, as somebody does it
// who has nothing: the account, the first login, the call that needs more, the
// consent that shows what is new and what needed it, the call again; and in the end
// it is taken back, and the token and an open stream with it.
func TestStepUpInABrowser(t *testing.T) {
	h := startHome(t)
	a := newApp(t, h.endpoint, "Example Agent")
	h.open(a.authorize("notes:read"))
	h.heading("Example Agent asks for access")
	h.mustSay("not verified", "a program on this device", "Read your notes and search in them", somebody)
	h.click("Allow")
	h.heading("Back in Example Agent")
	first := a.redeem(a.answer())
	if status, _ := a.call(first.Access, "list_notes", `{}`); status != http.StatusOK || first.Scope != "notes:read" {
		t.Errorf("list_notes with %q: %d", first.Scope, status)
	}
	status, scope := a.call(first.Access, "create_note", `{"title":"buy milk"}`)
	if status != http.StatusForbidden || scope != "notes:read notes:write" {
		t.Fatalf("create_note: %d, challenged for %q", status, scope)
	}
	h.open(a.authorize(scope))
	h.heading("Example Agent asks for more")
	h.mustSay("New in this request", "Create and change notes", "Needed for create_note", "You allowed before", "Read your notes")
	h.look("")
	h.click("Allow")
	h.heading("Back in Example Agent")
	second := a.redeem(a.answer())
	if status, _ := a.call(second.Access, "create_note", `{"title":"buy milk"}`); status != http.StatusOK {
		t.Errorf("create_note after the step-up with %q: %d", second.Scope, status)
	}
	stream := a.stream(second.Access)
	h.open(a.metadata.Issuer + "/authserver/grants")
	h.mustSay("Example Agent", "Read your notes and search in them", "Create and change notes")
	select {
	case <-stream:
		t.Fatal("the stream ended by itself")
	default:
	}
	h.click("Revoke")
	h.see(".said")
	h.mustSay("The access of Example Agent was revoked.", "You have allowed nothing yet")
	a.mustEnd(second.Access)
	select {
	case <-stream:
	case <-time.After(runLimit):
		t.Error("a stream outlives the grant that it was opened under")
	}
}

// TestRefusalReachesTheClient refuses, as a whole and a part.
func TestRefusalReachesTheClient(t *testing.T) {
	h := startHome(t)
	a := newApp(t, h.endpoint, "Example Agent")
	h.open(a.authorize("notes:read notes:write"))
	h.click("Refuse")
	h.heading("Back in Example Agent")
	if answer := a.answer(); answer.Get("error") != "access_denied" || answer.Has("code") {
		t.Errorf("refused: %v", answer)
	}
	h.open(a.authorize("notes:read notes:write"))
	h.heading("Example Agent asks for access")
	h.click("Create and change notes")
	h.click("Allow")
	h.heading("Back in Example Agent")
	if g := a.redeem(a.answer()); g.Scope != "notes:read" {
		t.Errorf("one mark taken away, granted %q", g.Scope)
	}
}

// TestUserCommandsWhileServing changes accounts under a running gateway: another
// password signs out, and removing an account ends what it had allowed.
func TestUserCommandsWhileServing(t *testing.T) {
	h := startHome(t)
	a := newApp(t, h.endpoint, "Example Agent")
	g := h.allow(a, "notes:read")
	if list := h.user("", "list"); !strings.HasPrefix(list, somebody+"  "+somebody+"-") {
		t.Errorf("list: %s", list)
	}
	h.user("another long password\n", "passwd", somebody)
	h.open(a.authorize("notes:read"))
	h.heading("Sign in")
	h.fill("username", somebody)
	h.fill("password", "another long password")
	h.click("Sign in")
	h.heading("Example Agent asks for access again")
	if status, _ := a.call(g.Access, "list_notes", `{}`); status != http.StatusOK {
		t.Errorf("another password ended the grant: %d", status)
	}
	h.user("", "remove", somebody)
	a.mustEnd(g.Access)
	h.open(a.metadata.Issuer + "/authserver/grants")
	h.heading("Sign in")
	h.mustSay("There is no account yet")
}

// TestLoginInTheFile signs alice in through the provider that stile.yaml names.
func TestLoginInTheFile(t *testing.T) {
	as := startIssuer(t, `CLAIMS={"email":"alice@example.com","email_verified":true,"groups":["staff"]}`)
	address := freeAddress(t)
	id, secret := registerClient(t, as, "http://"+address+portal.PathCallback)
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, policy: notesPolicy, address: address, options: describedNotes + strings.Join([]string{
		"login:",
		"  issuer: " + as.url,
		"  client_id: " + id,
		"  client_secret: " + secret,
		"  allow: {groups: [staff]}",
		"  groups: {staff: notes:read}",
	}, "\n")})
	b, a := startBrowser(t), newApp(t, g.endpoint, "Example Agent")
	b.open(a.authorize("notes:read notes:write"))
	b.heading("Sign in")
	b.click("Sign in with")
	b.heading("Example Agent asks for access")
	b.mustSay("alice@example.com", "Not yours to allow", "Create and change notes")
	b.click("Allow")
	b.heading("Back in Example Agent")
	if g := a.redeem(a.answer()); g.Scope != "notes:read" {
		t.Errorf("granted %q", g.Scope)
	}
}
