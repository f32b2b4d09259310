package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/stiletest"
)

// desk is somebody with local clients, a browser, and a folder where stile connect
// keeps what it needs.
type desk struct {
	t        *testing.T
	endpoint string
	env      []string
	// click does what the person does with an address that a browser was opened with,
	// and returns the page that they end at.
	click func(address string) (page string)

	mu     sync.Mutex // guards what follows
	visits []*url.URL
	pages  []string
}

// newDesk is a desk whose $BROWSER hands every address to click.
func newDesk(t *testing.T, endpoint string, click func(address string) string) *desk {
	t.Helper()
	d := &desk{t: t, endpoint: endpoint, click: click}
	person := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		d.visit(string(address))
	}))
	t.Cleanup(person.Close)
	d.env = append(os.Environ(), "STILE_HOME="+t.TempDir(), "PERSON="+person.URL,
		"BROWSER="+build(t, "github.com/stile-mcp/stile/interop/connect/browser"))
	return d
}

func (d *desk) visit(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, err := url.Parse(address)
	if err != nil {
		d.t.Errorf("opened %q: %v", address, err)
		return
	}
	d.visits = append(d.visits, u)
	d.pages = append(d.pages, d.click(address))
}

// asked is which scopes each login asked for.
func (d *desk) asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, u := range d.visits {
		all = append(all, sorted(u.Query().Get("scope")))
	}
	return all
}

func (d *desk) wantAsked(want ...string) {
	d.t.Helper()
	if got := d.asked(); strings.Join(got, ", ") != strings.Join(want, ", ") {
		d.t.Errorf("logins asked for %q, want %q", got, want)
	}
}

// connect is stile connect in front of the endpoint.
func (d *desk) connect(args ...string) *exec.Cmd {
	d.t.Helper()
	c := exec.Command(stileBinary(d.t), append(append([]string{"connect", "--storage", "file"}, args...), d.endpoint)...)
	c.Env = d.env
	return c
}

// run runs stile connect to its end, and returns what it wrote to standard output.
func (d *desk) run(args ...string) string {
	d.t.Helper()
	c := d.connect(args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		d.t.Fatalf("%s: %v\n%s%s", c, err, out, &stderr)
	}
	return string(out)
}

// local is a go-sdk client in front of a stile connect of its own.
type local struct {
	*mcp.ClientSession
	d       *desk
	command *exec.Cmd
	stderr  *syncBuffer
	notices chan string // log messages
}

func (d *desk) open(era string, args ...string) *local {
	d.t.Helper()
	l, err := d.tryOpen(era, args...)
	if err != nil {
		d.t.Fatalf("%v\n%s", err, l.stderr)
	}
	return l
}

func (d *desk) tryOpen(era string, args ...string) (*local, error) {
	l := &local{d: d, command: d.connect(args...), stderr: &syncBuffer{}, notices: make(chan string, 64)}
	l.command.Stderr = l.stderr
	client := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1.8.0"}, &mcp.ClientOptions{
		//nolint:staticcheck // messages of servers are deprecated, and what clients of today show
		LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) { l.notices <- fmt.Sprint(r.Params.Data) },
	})
	ctx, cancel := context.WithTimeout(d.t.Context(), runLimit)
	defer cancel()
	var err error
	l.ClientSession, err = client.Connect(ctx, &mcp.CommandTransport{Command: l.command}, &mcp.ClientSessionOptions{ProtocolVersion: era})
	if err != nil {
		return l, err
	}
	d.t.Cleanup(func() { _ = l.Close() })
	return l, nil
}

// call calls a tool, and returns its text.
func (l *local) call(name string, arguments map[string]any) (text string, isError bool) {
	l.d.t.Helper()
	ctx, cancel := context.WithTimeout(l.d.t.Context(), runLimit)
	defer cancel()
	result, err := l.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: arguments})
	if err != nil {
		l.d.t.Fatalf("%s: %v\n%s", name, err, l.stderr)
	}
	var all []string
	for _, c := range result.Content {
		if c, ok := c.(*mcp.TextContent); ok {
			all = append(all, c.Text)
		}
	}
	return strings.Join(all, "\n"), result.IsError
}

func (l *local) mustCall(name string, arguments map[string]any) {
	l.d.t.Helper()
	if text, isError := l.call(name, arguments); isError {
		l.d.t.Errorf("%s: %s\n%s", name, text, l.stderr)
	}
}

// kill ends the bridge as no program can catch.
func (l *local) kill() {
	_ = l.command.Process.Kill()
	_ = l.Close()
}

var oneNote = map[string]any{"title": "buy milk"}

// protected is a server and how somebody logs in to it.
type protected struct {
	name  string
	start func(t *testing.T) *desk
}

// embeddedDesk is in front of Stile with its own authorization server, on whose pages
// somebody allows what is asked for.
func embeddedDesk(t *testing.T) *desk {
	t.Helper()
	d, a := accountDesk(t)
	d.click = func(address string) string { return fetchPage(t, http.DefaultClient, a.allow(address)) }
	return d
}

// accountDesk is embeddedDesk with nobody who clicks.
func accountDesk(t *testing.T) (*desk, *allower) {
	t.Helper()
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, policy: notesPolicy})
	a := &allower{reader: newReader(t)}
	a.reader.makeAccount(g.program.line("/authserver/setup?token="))
	return newDesk(t, g.endpoint, nil), a
}

// foreignDesk is in front of @modelcontextprotocol/server, whose challenges name what
// its author says, with oidc-provider.
func foreignDesk(t *testing.T) *desk {
	t.Helper()
	as := startIssuer(t, notesScopes)
	ts := startTypescript(t, "ISSUER="+as.url)
	return newDesk(t, ts.url+"/challenging", func(address string) string {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Error(err)
		}
		return fetchPage(t, &http.Client{Jar: jar}, address)
	})
}

// fetchPage goes to an address as a browser does, and returns the page at the end.
func fetchPage(t *testing.T, client *http.Client, address string) string {
	response, err := client.Get(address)
	if err != nil {
		t.Errorf("the browser: %v", err)
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("the browser ends at %s: %s %v\n%s", response.Request.URL, response.Status, err, body)
	}
	return string(body)
}

var fronts = []protected{
	{"Stile, its own authorization server", embeddedDesk},
	{"@modelcontextprotocol/server 2.4.0, oidc-provider 9.13.3", foreignDesk},
}

// TestConnect has real stdio clients of both generations log in, call what is refused
// with 403, step up, and find their login again when stile connect was killed.
func TestConnect(t *testing.T) {
	table := newTable("client", "era", "server", "logins", "step-up", "after kill -9")
	for _, client := range []struct {
		name string
		use  func(t *testing.T, d *desk, era string)
	}{
		{"go-sdk v1.8.0, stdio", useGo},
		{"@modelcontextprotocol/client 2.4.0, stdio", useTypescript},
	} {
		for _, era := range []string{era2025, era2026} {
			for _, front := range fronts {
				t.Run(client.name+"/"+era+"/"+front.name, func(t *testing.T) {
					d := front.start(t)
					client.use(t, d, era)
					d.wantAsked("notes:read", "notes:read notes:write")
					for i, want := range []string{"You are logged in", "create_note"} {
						if d.mu.Lock(); i >= len(d.pages) || !strings.Contains(d.pages[i], want) {
							t.Errorf("the pages at the end of the logins: %q", d.pages)
						}
						d.mu.Unlock()
					}
					if !t.Failed() {
						table.add(client.name, era, front.name, "notes:read; notes:read notes:write", "the call succeeds", "no further login")
					}
				})
			}
		}
	}
	table.publish(t, "connect.md")
}

func useGo(t *testing.T, d *desk, era string) {
	l := d.open(era)
	if got := l.InitializeResult().ProtocolVersion; got != era {
		t.Errorf("negotiated %s, want %s", got, era)
	}
	if _, err := l.ListTools(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	l.mustCall("list_notes", map[string]any{})
	d.wantAsked("notes:read")
	l.mustCall("create_note", oneNote)
	d.wantAsked("notes:read", "notes:read notes:write")
	if log := l.stderr.String(); !strings.Contains(log, "asks you to log in") || !strings.Contains(log, "create_note needs your permission") || webToken.MatchString(log) {
		t.Errorf("standard error:\n%s", log)
	}
	l.kill()
	again := d.open(era)
	again.mustCall("create_note", oneNote)
}

func useTypescript(t *testing.T, d *desk, era string) {
	for _, targets := range []string{
		`[{"name":"list_notes","arguments":{}},{"name":"create_note","arguments":{"title":"buy milk"}}]`,
		`[{"name":"create_note","arguments":{"title":"buy bread"}}]`,
	} {
		c := d.connect()
		p := start(t, c.Env, node(t), append([]string{"connect/stdio.mjs", era, targets}, c.Args...)...)
		p.line("connected")
		var r struct {
			OK      bool
			Error   string
			Results []struct{ IsError bool }
		}
		if err := json.Unmarshal([]byte(p.line("results")), &r); err != nil {
			t.Fatal(err)
		}
		if !r.OK || len(r.Results) != strings.Count(targets, "name") || r.Results[len(r.Results)-1].IsError {
			t.Errorf("%+v\n%s", r, p.stderr)
		}
	}
}

// TestConnectTwoAtOnce starts two bridges together, as a client does that has the same
// server in two windows: one browser window opens, also for a step-up that both want.
func TestConnectTwoAtOnce(t *testing.T) {
	d := embeddedDesk(t)
	var both [2]*local
	inTwo := func(act func(i int)) {
		var wg sync.WaitGroup
		for i := range both {
			wg.Go(func() { act(i) })
		}
		wg.Wait()
	}
	inTwo(func(i int) {
		l, err := d.tryOpen([]string{era2025, era2026}[i])
		if err != nil {
			t.Errorf("%v\n%s", err, l.stderr)
		}
		both[i] = l
	})
	if t.Failed() {
		return
	}
	d.wantAsked("notes:read")
	inTwo(func(i int) { both[i].mustCall("create_note", oneNote) })
	d.wantAsked("notes:read", "notes:read notes:write")
}

// TestConnectInParallel has one client call what is refused many times at once.
func TestConnectInParallel(t *testing.T) {
	d := embeddedDesk(t)
	l := d.open(era2026)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { l.mustCall("create_note", oneNote) })
	}
	wg.Wait()
	d.wantAsked("notes:read", "notes:read notes:write")
}

// TestConnectListAndLogout logs in beforehand, sees the login, and forgets it.
func TestConnectListAndLogout(t *testing.T) {
	d := embeddedDesk(t)
	if said := d.run("--login"); !strings.Contains(said, "logged in to "+d.endpoint) || !strings.Contains(said, "notes:read") {
		t.Errorf("--login: %s", said)
	}
	if said := d.run("--login"); !strings.Contains(said, "logged in to "+d.endpoint) {
		t.Errorf("--login once more: %s", said)
	}
	d.wantAsked("notes:read")
	list := d.run("--list")
	if !strings.HasPrefix(list, d.endpoint+"\n") || !strings.Contains(list, "scopes   notes:read\n") || webToken.MatchString(list) {
		t.Errorf("--list: %s", list)
	}
	l := d.open(era2025)
	l.mustCall("list_notes", map[string]any{})
	d.wantAsked("notes:read")
	_ = l.Close()
	if code := l.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d when the client has left\n%s", code, l.stderr)
	}
	if said := d.run("--logout"); !strings.Contains(said, "forgot the login to "+d.endpoint) {
		t.Errorf("--logout: %s", said)
	}
	if list := d.run("--list"); !strings.Contains(list, "no logins") {
		t.Errorf("--list after --logout: %s", list)
	}
	d.open(era2025)
	d.wantAsked("notes:read", "notes:read")
}

// inKeyring runs a command in a session with an unlocked GNOME keyring.
const inKeyring = `printf password | gnome-keyring-daemon --unlock --components=secrets >/dev/null && exec "$@"`

// TestConnectKeyring keeps the login with a key in the keyring of Debian's GNOME, and
// finds it in another session; nobody else does.
func TestConnectKeyring(t *testing.T) {
	for _, name := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("a keyring is looked at in this test: apt-get install dbus gnome-keyring (%v)", err)
		}
	}
	d := embeddedDesk(t)
	home, kept := t.TempDir(), t.TempDir()
	run := func(args ...string) string {
		c := exec.Command("dbus-run-session", append([]string{"--", "sh", "-c", inKeyring, "sh", stileBinary(t), "connect", "--storage", "keyring", d.endpoint}, args...)...)
		c.Env = append(d.env, "HOME="+home, "STILE_HOME="+kept)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%v\n%s%s", err, out, &stderr)
		}
		return string(out)
	}
	run("--login")
	if said := run("--login"); !strings.Contains(said, "logged in to "+d.endpoint) {
		t.Errorf("--login in another session: %s", said)
	}
	d.wantAsked("notes:read")
	if list := run("--list"); !strings.Contains(list, "sealed with a key in the keyring") || !strings.Contains(list, "notes:read") {
		t.Errorf("--list: %s", list)
	}
	files, err := filepath.Glob(filepath.Join(kept, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing is kept: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte(`"sealed"`)) || bytes.Contains(text, []byte(`"value"`)) {
			t.Errorf("%s: %s, %v", file, text, err)
		}
	}
}

// TestConnectRefused refuses a step-up: the client is told that a window opens, and
// what happened in the result, and goes on with what it has.
func TestConnectRefused(t *testing.T) {
	for _, era := range []string{era2025, era2026} {
		t.Run(era, func(t *testing.T) {
			d, a := accountDesk(t)
			d.click = func(address string) string { return fetchPage(t, http.DefaultClient, a.allow(address)) }
			l := d.open(era)
			d.mu.Lock()
			d.click = func(address string) string {
				a.reader.open(address)
				a.reader.submit("decision", "deny")
				back := refresh.FindStringSubmatch(a.reader.page)
				return fetchPage(t, http.DefaultClient, html.UnescapeString(back[1]))
			}
			d.mu.Unlock()
			text, isError := l.call("create_note", oneNote)
			if !isError || !strings.Contains(text, "create_note was not done") || !strings.Contains(text, "refused") || !strings.Contains(text, "stile connect --login "+d.endpoint) {
				t.Errorf("the client is told %q", text)
			}
			d.mu.Lock()
			if page := d.pages[len(d.pages)-1]; !strings.Contains(page, "Nothing was allowed") {
				t.Errorf("the person is told\n%s", page)
			}
			d.mu.Unlock()
			if era == era2025 { // whose clients hear messages without asking
				if notice := <-l.notices; !strings.Contains(notice, "create_note needs your permission") {
					t.Errorf("the client is told %q meanwhile", notice)
				}
			}
			l.mustCall("list_notes", map[string]any{})
		})
	}
}

// TestConnectByHand logs in where there is no browser: the address is printed to a
// terminal, and the answer pasted there, while the client speaks over the pipes.
func TestConnectByHand(t *testing.T) {
	d, a := accountDesk(t)
	screen, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	c := d.connect("--no-browser")
	c.Stderr = tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2}
	seen := &syncBuffer{}
	go func() {
		part := make([]byte, 1024)
		for pasted := false; ; {
			n, err := screen.Read(part)
			_, _ = seen.Write(part[:n])
			if err != nil {
				return
			}
			if text := seen.String(); !pasted && strings.Contains(text, "press Enter") {
				pasted = true
				_, _ = fmt.Fprintf(screen, "not this\n%s\n", a.answer(text))
			}
		}
	}()
	client := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1.8.0"}, nil)
	session, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: c}, &mcp.ClientSessionOptions{ProtocolVersion: era2025})
	_ = tty.Close()
	if err != nil {
		t.Fatalf("%v\n%s", err, seen)
	}
	defer session.Close()
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "list_notes"}); err != nil {
		t.Errorf("%v\n%s", err, seen)
	}
	if text := seen.String(); !strings.Contains(text, "Paste again") || !strings.Contains(text, "You are logged in") {
		t.Errorf("the terminal shows\n%s", text)
	}
	d.wantAsked()
}

// answer allows what the address asks for that a terminal shows, and returns where
// the answer goes.
func (a *allower) answer(screen string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for line := range strings.Lines(screen) {
		if address := strings.TrimSpace(line); strings.Contains(address, "/authorize?") {
			return a.reader.answer(address)
		}
	}
	return "no address on the screen"
}

// TestConnectEnds ends the bridge by a signal while nothing is under way, and in the
// middle of a login.
func TestConnectEnds(t *testing.T) {
	d := embeddedDesk(t)
	l := d.open(era2025)
	if err := l.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if code := l.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after SIGTERM\n%s", code, l.stderr)
	}
	d.run("--logout")
	opened := make(chan string, 1)
	d.mu.Lock()
	d.click = func(address string) string { opened <- address; return "" }
	d.mu.Unlock()
	c := d.connect()
	p := start(t, c.Env, c.Args[0], c.Args[1:]...)
	_, _ = io.WriteString(p.stdin, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`+"\n")
	<-opened
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d after SIGTERM in a login\n%s", code, p.stderr)
	}
}
