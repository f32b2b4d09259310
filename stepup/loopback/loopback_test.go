package loopback_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/stepup"
	"github.com/stile-mcp/stile/stepup/loopback"
)

const authorizeURL = "https://idp.example.com/authorize?state=s1"

func asked() stepup.Request {
	return stepup.Request{URL: authorizeURL, Resource: "https://mcp.example.com/mcp", Issuer: "https://idp.example.com"}
}

// printed is what a Person prints, for who waits for it.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func newPrinted() *printed { return &printed{more: make(chan struct{}, 64)} }

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	p.more <- struct{}{}
	return len(b), nil
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// await waits until a text has been printed.
func (p *printed) await(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(p.String(), text) {
		select {
		case <-p.more:
		case <-t.Context().Done():
			t.Fatalf("never printed %q but:\n%s", text, p)
		}
	}
}

// get is a browser that goes to an address once.
func get(t *testing.T, address string, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// login is a visit under way.
type login struct {
	stepup.Visit
	opened chan string
	answer chan url.Values
	err    chan error
}

func begin(t *testing.T, c loopback.Config, preferred string) stepup.Visit {
	t.Helper()
	v, err := loopback.New(c).Begin(t.Context(), preferred)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// start begins a visit with a browser that tells where it was sent.
func start(t *testing.T, r stepup.Request, c loopback.Config) *login {
	t.Helper()
	l := &login{opened: make(chan string, 1), answer: make(chan url.Values, 1), err: make(chan error, 1)}
	if c.Browser == nil {
		c.Browser = func(address string) error { l.opened <- address; return nil }
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	l.Visit = begin(t, c, "")
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		answer, err := l.Authorize(ctx, r)
		l.answer <- answer
		l.err <- err
	}()
	return l
}

// told ends a visit as stepup does.
func (l *login) told(err error) { l.Visit.(stepup.Teller).Told(err) }

func TestPages(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	step := asked()
	step.Operation, step.New = "tools/call delete_note", []string{"notes:write", "<script>"}
	for name, tc := range map[string]struct {
		request stepup.Request
		err     error
		says    []string
	}{
		"login":   {asked(), nil, []string{"You are logged in", "mcp.example.com"}},
		"step-up": {step, nil, []string{"Your program tries again", "to do delete_note.", "notes:write", "&lt;script&gt;"}},
		"refused": {asked(), &stepup.DeniedError{Code: "access_denied", Description: `<img src=x onerror="alert(1)">`},
			[]string{"Nothing was allowed", "access_denied", "&lt;img src=x"}},
		"bad": {asked(), errors.New("the code <b>\x1b[31m was used before"), []string{"did not work", "&lt;b&gt;?[31m was used"}},
	} {
		t.Run(name, func(t *testing.T) {
			var told []string
			l := start(t, tc.request, loopback.Config{Tell: func(s string) { told = append(told, s) }})
			if to := <-l.opened; to != authorizeURL {
				t.Errorf("opened %s", to)
			}
			go func() {
				if answer := <-l.answer; answer.Get("code") != "c1" || answer.Get("state") != "s1" || answer.Get("iss") != "" {
					t.Errorf("the answer is %v", answer)
				}
				l.told(tc.err)
			}()
			resp, page := get(t, l.RedirectURI()+"?code=c1&state=s1")
			for _, want := range tc.says {
				if !strings.Contains(page, want) {
					t.Errorf("the page does not say %q:\n%s", want, page)
				}
			}
			for _, bad := range []string{"<script", "<img", "\x1b", "c1"} {
				if strings.Contains(page, bad) {
					t.Errorf("the page has %q:\n%s", bad, page)
				}
			}
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Referrer-Policy") != "no-referrer" || resp.Header.Get("Cache-Control") != "no-store" ||
				!strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") {
				t.Errorf("%d %v", resp.StatusCode, resp.Header)
			}
			if err := <-l.err; err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if len(told) == 0 || (tc.err == nil) != (len(told) == 2) {
				t.Errorf("told %q", told)
			}
		})
	}
}

func TestWhatIsNoAnswer(t *testing.T) {
	l := start(t, asked(), loopback.Config{})
	defer l.Close()
	<-l.opened
	to := l.RedirectURI()
	for name, tc := range map[string]struct {
		address string
		change  func(*http.Request)
		status  int
	}{
		"another path":       {strings.Replace(to, "/callback", "/", 1) + "?code=c", nil, 404},
		"a path below":       {to + "/x?code=c", nil, 404},
		"no parameters":      {to, nil, 400},
		"neither":            {to + "?state=s1", nil, 400},
		"a broken query":     {to + "?code=%zz", nil, 400},
		"no state":           {to + "?code=c", nil, 400},
		"another state":      {to + "?code=c&state=s2", nil, 400},
		"an error of others": {to + "?error=access_denied&state=s2", nil, 400},
		"another host":       {to + "?code=c&state=s1", func(r *http.Request) { r.Host = "evil.example:80" }, 400},
		"the name":           {to + "?code=c&state=s1", func(r *http.Request) { r.Host = strings.Replace(r.Host, "127.0.0.1", "localhost", 1) }, 400},
		"POST":               {to + "?code=c&state=s1", func(r *http.Request) { r.Method = http.MethodPost }, 405},
		"HEAD":               {to + "?code=c&state=s1", func(r *http.Request) { r.Method = http.MethodHead }, 405},
		"an image":           {to + "?code=c&state=s1", func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "image") }, 400},
		"a frame":            {to + "?code=c&state=s1", func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "iframe") }, 400},
		"script of a page":   {to + "?code=c&state=s1", func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "empty") }, 400},
		"an icon":            {strings.Replace(to, "/callback", "/favicon.ico", 1), nil, 404},
		"too long a header":  {to + "?code=c&state=s1", func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 100<<10)) }, 431},
	} {
		change := tc.change
		if change == nil {
			change = func(*http.Request) {}
		}
		resp, page := get(t, tc.address, change)
		if resp.StatusCode != tc.status || strings.Contains(page, "<") {
			t.Errorf("%s: %d %s, want %d", name, resp.StatusCode, page, tc.status)
		}
	}
	// All that did not harm: the answer is taken, and no second one.
	go func() { <-l.answer; l.told(nil) }()
	if resp, page := get(t, to+"?error=access_denied&state=s1"); resp.StatusCode != http.StatusOK {
		t.Errorf("the answer: %d %s", resp.StatusCode, page)
	}
	if resp, page := get(t, to+"?code=c2&state=s1"); resp.StatusCode != http.StatusBadRequest || !strings.Contains(page, "No login waits") {
		t.Errorf("a late answer: %d %s", resp.StatusCode, page)
	}
}

// What a server wants to be allowed is told before anybody goes to the issuer, whose page
// may tell less: all of it, and not what was allowed before.
func TestScopesAreTold(t *testing.T) {
	r := asked()
	r.Operation, r.Scopes = "tools/call delete_note", []string{"notes:read"}
	for range 60 {
		r.New = append(r.New, "harmless:reading")
	}
	r.New = append(r.New, "admin\x1b[31m")
	for _, noBrowser := range []bool{false, true} {
		out, told := newPrinted(), make(chan string, 2)
		l := start(t, r, loopback.Config{Out: out, NoBrowser: noBrowser, Tell: func(s string) { told <- s }})
		out.await(t, "https://idp.example.com/authorize")
		for _, text := range []string{out.String(), <-told} {
			if !strings.Contains(text, ", for harmless:reading harmless:reading") || !strings.Contains(text, " admin?[31m.") || strings.Contains(text, "notes:read") {
				t.Errorf("said %s", text)
			}
		}
		_ = l.Close()
	}
}

// Before anybody was sent to the issuer nothing is an answer.
func TestEarlyAnswer(t *testing.T) {
	v := begin(t, loopback.Config{Out: io.Discard}, "")
	if resp, page := get(t, v.RedirectURI()+"?code=c&state=s"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%d %s", resp.StatusCode, page)
	}
}

func TestPorts(t *testing.T) {
	first := begin(t, loopback.Config{}, "")
	again := first.RedirectURI()
	if !strings.HasPrefix(again, "http://127.0.0.1:") || !strings.HasSuffix(again, loopback.Path) {
		t.Errorf("redirect URI %s", again)
	}
	if other := begin(t, loopback.Config{}, again); other.RedirectURI() == again {
		t.Error("two visits at one port")
	}
	u, _ := url.Parse(again)
	port := 0
	for _, c := range u.Port() {
		port = port*10 + int(c-'0')
	}
	if _, err := loopback.New(loopback.Config{Port: port}).Begin(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "port for the answer") {
		t.Errorf("a fixed port that is taken: %v", err)
	}
	_ = first.Close()
	preferred := begin(t, loopback.Config{}, again)
	if preferred.RedirectURI() != again {
		t.Errorf("preferred: %s, want %s", preferred.RedirectURI(), again)
	}
	_ = preferred.Close()
	if v := begin(t, loopback.Config{Port: port}, "http://127.0.0.1:1/callback"); v.RedirectURI() != again {
		t.Errorf("fixed: %s, want %s", v.RedirectURI(), again)
	}
	for _, foreign := range []string{"http://localhost:" + u.Port() + "/callback", "https://127.0.0.1:99/callback", "http://127.0.0.1:99999/callback", "cursor://x", "::"} {
		if v := begin(t, loopback.Config{}, foreign); v.RedirectURI() == foreign {
			t.Errorf("took %s", foreign)
		}
	}
}

func TestAddressesThatAreNotOpened(t *testing.T) {
	for address, resource := range map[string]string{
		"http://idp.example.com/a":                        "https://mcp.example.com/mcp",
		"file:///etc/passwd":                              "https://mcp.example.com/mcp",
		"ms-msdt:/id":                                     "https://mcp.example.com/mcp",
		"javascript:alert(1)":                             "https://mcp.example.com/mcp",
		"--version":                                       "https://mcp.example.com/mcp",
		"https://u:p@idp.example.com/":                    "https://mcp.example.com/mcp",
		"https://idp.example.com/\x1b[31m":                "https://mcp.example.com/mcp",
		"https://idp.example.com/a?b=\"&calc&\"":          "https://mcp.example.com/mcp",
		"https://idp.example.com/a?b=`id`":                "https://mcp.example.com/mcp",
		"https://idp.example.com/a?b=|id":                 "https://mcp.example.com/mcp",
		"https://idp.example.com/a?b=\u202e":              "https://mcp.example.com/mcp",
		"http://127.0.0.1:22/":                            "https://mcp.example.com/mcp",
		"https://localhost/":                              "https://mcp.example.com/mcp",
		"https://x.example/" + strings.Repeat("a", 20000): "https://mcp.example.com/mcp",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		v := begin(t, loopback.Config{Out: io.Discard, Browser: func(a string) error { t.Errorf("opened %s", a); cancel(); return nil }}, "")
		r := asked()
		r.URL, r.Resource = address, resource
		if _, err := v.Authorize(ctx, r); err == nil || !strings.Contains(err.Error(), "address to log in at") {
			t.Errorf("%.60s: %v", address, err)
		}
		cancel()
	}
	r := asked()
	r.URL, r.Resource = "http://localhost:8080/authorize", "http://127.0.0.1:9/mcp"
	l := start(t, r, loopback.Config{})
	select {
	case to := <-l.opened:
		if to != r.URL {
			t.Errorf("opened %s", to)
		}
	case err := <-l.err:
		t.Errorf("%s: %v", r.URL, err)
	}
}

// A browser that runs on, or that does nothing, does not keep an answer away.
func TestBrowserIsNotWaitedFor(t *testing.T) {
	running := make(chan struct{})
	defer close(running)
	opened := make(chan string, 1)
	l := start(t, asked(), loopback.Config{Browser: func(a string) error { opened <- a; <-running; return nil }})
	<-opened
	go func() { l.told(<-l.err) }()
	if resp, _ := get(t, l.RedirectURI()+"?code=c&state=s1"); resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}

// Where a browser cannot be opened the address is printed, and both ways of the
// answer are open.
func TestPasted(t *testing.T) {
	for name, browser := range map[string]func(string) error{
		"it fails": func(string) error { return errors.New("exit status 3") },
		"none":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			keys, typed := io.Pipe()
			defer typed.Close()
			out, told := newPrinted(), make(chan string, 8)
			l := start(t, asked(), loopback.Config{NoBrowser: browser == nil, Browser: browser, Out: out, Paste: keys, Tell: func(s string) { told <- s }})
			out.await(t, "paste the address")
			for _, line := range []string{"\n", "what?\n", "https://evil.example/callback?code=x\n"} {
				_, _ = io.WriteString(typed, line)
			}
			out.await(t, "begins with "+l.RedirectURI())
			_, _ = io.WriteString(typed, "  '"+l.RedirectURI()+"?code=c1&state=s1' \n")
			if answer := <-l.answer; answer.Get("code") != "c1" || answer.Get("state") != "s1" {
				t.Errorf("the answer is %v: %v", answer, <-l.err)
			}
			for text := range told {
				if strings.Contains(text, authorizeURL) {
					return
				}
				if browser == nil {
					t.Errorf("told %q", text)
				}
			}
		})
	}
}

func TestForwardedPort(t *testing.T) {
	out := newPrinted()
	l := start(t, asked(), loopback.Config{NoBrowser: true, Out: out})
	out.await(t, authorizeURL)
	if strings.Contains(out.String(), "paste") {
		t.Errorf("asks to paste where nobody could:\n%s", out)
	}
	go func() { l.told(<-l.err) }()
	if resp, _ := get(t, l.RedirectURI()+"?code=c&state=s1"); resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 81 && !strings.Contains(line, "http") {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	v := begin(t, loopback.Config{Out: io.Discard, Browser: func(string) error { return nil }}, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Authorize(ctx, asked()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = v.Close()
}
