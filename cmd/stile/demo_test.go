package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/stiletest"
)

// settled is what the demo prints without what differs from run to run: the
// ports, and the order in which the go-sdk asks for scopes.
func settled(text string) string {
	names := []string{"NOTES", "STILE"}
	for _, address := range regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindAllString(text, len(names)) {
		text = strings.ReplaceAll(text, address, "http://"+names[0])
		names = names[1:]
	}
	return regexp.MustCompile(`(?m)^( +(?:scope    = |granted: scope = ")?)(notes:[a-z]+(?: notes:[a-z]+)+)("?)$`).
		ReplaceAllStringFunc(text, func(line string) string {
			at := strings.Index(line, "notes:")
			scopes := strings.Fields(strings.TrimSuffix(line[at:], `"`))
			slices.Sort(scopes)
			return line[:at] + strings.Join(scopes, " ") + strings.Repeat(`"`, strings.Count(line[at:], `"`))
		})
}

// The demo as a process of its own: every step, in 80 columns, and exit code 0.
func TestDemoOnce(t *testing.T) {
	cmd := exec.Command("stile", "demo", "--once")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %s%s", err, &stdout, &stderr)
	}
	for line := range strings.Lines(stdout.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.Contains(line, "eyJ") || strings.HasSuffix(line, " \n") {
			t.Errorf("a token or a space at the end: %q", line)
		}
	}
	golden := filepath.Join("testdata", "demo.txt")
	got := settled(stdout.String())
	if stiletest.Update() {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (go test -update writes it anew): %s", golden, diff)
	}
}

// Without --once it stays up, and what it proposes to try works as told.
func TestDemoStaysUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := newTold(), newTold()
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"demo"}, strings.NewReader(""), stdout, stderr) }()
	stdout.wait(t, "serve -c stile.yaml", 1)
	text := stdout.String()
	find := func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("%s is not told: %s", pattern, text)
		}
		return found[1]
	}
	token, url, body := find(`(?m)^TOKEN=(\S+)$`), find(`curl -i (\S+) `), find(`(?s)-d '(.*?)'`)
	for name, tc := range map[string]struct {
		body string
		want int
	}{
		"the proposed call": {body, http.StatusForbidden},
		"an allowed one":    {strings.Replace(strings.Replace(body, "delete_note", "list_notes", 1), `"arguments":{"id":"1"}`, `"arguments":{}`, 1), http.StatusOK},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		for header := range strings.SplitSeq(find(`(?s)curl(.*?)-d '`), "-H '") {
			if name, value, ok := strings.Cut(strings.TrimRight(header, "' \\\n"), ": "); ok && !strings.Contains(name, "curl") && !strings.Contains(name, `"`) {
				r.Header.Set(name, value)
			}
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != tc.want {
			t.Errorf("%s: %d %s", name, res.StatusCode, answer)
		}
		if tc.want == http.StatusForbidden && !strings.Contains(res.Header.Get("WWW-Authenticate"), `scope="notes:read notes:write"`) {
			t.Errorf("%s: %s", name, res.Header.Get("WWW-Authenticate"))
		}
	}
	checkDemoPage(t, find(`(?m)^  (http\S+/demo)$`))
	checkSetupLink(t, find(`(?m)^  (http\S+/authserver/setup\S+)$`))
	cancel()
	if code := <-ended; code != exitOK || stderr.String() != "" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("it listens on after its end")
	}
}

// checkDemoPage looks for what happened on the page that draws it.
func checkDemoPage(t *testing.T, at string) {
	t.Helper()
	text, header := readPage(t, at)
	for _, want := range []string{
		"3. The step-up", "insufficient_scope", "notes:read notes:write notes:admin", "all that the call needs, in one list",
		"Delete notes for good", "allowed before", "after the step-up", "took ", "not offered through this gateway",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, never := range []string{"eyJ", "<script", "style="} {
		if strings.Contains(text, never) {
			t.Errorf("the page has %q", never)
		}
	}
	if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy of the page: %q", csp)
	}
	if style, header := readPage(t, at+".css"); !strings.Contains(style, "main {") || !strings.HasPrefix(header.Get("Content-Type"), "text/css") {
		t.Error("the page has no style")
	}
}

// checkSetupLink makes sure that the printed link leads to where an account is made.
func checkSetupLink(t *testing.T, at string) {
	t.Helper()
	if text, _ := readPage(t, at); !strings.Contains(text, "Create your account") {
		t.Errorf("the link leads to %s", text)
	}
}

func readPage(t *testing.T, at string) (string, http.Header) {
	t.Helper()
	res, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", at, res.Status, err)
	}
	return string(text), res.Header
}

// What does not go as told ends with exit code 1 and says so.
func TestDemoThatFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr strings.Builder
	if code := run(ctx, []string{"demo", "--once"}, strings.NewReader(""), &stdout, &stderr); code != exitFailed ||
		!strings.Contains(stderr.String(), "the demo did not go as told") {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
}

// The checks behind the story see what they are there for.
func TestDemoChecks(t *testing.T) {
	d, err := startDemo(fakeAround(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	s := newStory(io.Discard, d)
	if err := s.checkAsked("notes:read"); err == nil {
		t.Error("a client that never asked is taken for one that did")
	}
	client, err := stiletest.NewClient(t.Context(), d.url, stiletest.ClientOptions{Version: stiletest.Version2025,
		HTTPClient: &http.Client{Transport: &s.recorder}, Client: stiletest.Client{ID: demoClient}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s.chapter("checks")
	if err := s.checkAsked("notes:read notes:write"); err == nil || !strings.Contains(err.Error(), "notes:write") {
		t.Errorf("asked for less: %v", err)
	}
	if err := s.checkStepUp(client.ID(), client); err == nil {
		t.Error("no step-up is taken for one")
	}
	for _, step := range []struct {
		tool string
		args map[string]any
		want bool
	}{{"list_notes", map[string]any{}, true}, {"get_note", map[string]any{"id": "99"}, false}, {"no_such_tool", nil, false}} {
		if err := s.call(t.Context(), client, step.tool, step.args); (err == nil) != step.want {
			t.Errorf("%s: %v", step.tool, err)
		}
	}
	if err := s.call(t.Context(), client, "delete_note", map[string]any{"id": "3", "permanent": true}); err != nil {
		t.Fatal(err)
	}
	if err := s.checkStepUp(client.ID(), client); err != nil {
		t.Errorf("a step-up as told: %v", err)
	}
	if err := s.checkStepUp("another", client); err == nil || !strings.Contains(err.Error(), "session changed") {
		t.Errorf("another session: %v", err)
	}
	if err := s.call(t.Context(), client, "delete_note", map[string]any{"id": "2", "permanent": true}); err != nil {
		t.Fatal(err)
	}
	if err := s.checkStepUp(client.ID(), client); err == nil || !strings.Contains(err.Error(), "exactly once") {
		t.Errorf("a call that came twice: %v", err)
	}
}

func TestWrap(t *testing.T) {
	for name, text := range map[string]string{
		"short": "a b c", "long": strings.Repeat("word ", 60), "one long word": strings.Repeat("x", 200),
		"long word between": "a " + strings.Repeat("x", 79) + " b", "just fits": strings.Repeat("x", width-len("      ")-len("    ")),
	} {
		wrapped := wrap(text, "    ")
		if got := strings.Join(strings.Fields(wrapped), " "); got != strings.Join(strings.Fields(text), " ") {
			t.Errorf("%s: the words became %q", name, got)
		}
		for i, line := range strings.Split(wrapped, "\n") {
			if i == 0 {
				line = "      " + line // where detail puts it
			}
			if len(line) > width && len(strings.Fields(line)) > 1 {
				t.Errorf("%s: line %d has %d columns: %q", name, i, len(line), line)
			}
		}
	}
}
