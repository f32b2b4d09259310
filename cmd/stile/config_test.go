package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/internal/problem"
)

// fakeAround is an environment and files for tests.
func fakeAround(vars, files map[string]string) surroundings {
	return surroundings{
		lookup: func(name string) (string, bool) { v, ok := vars[name]; return v, ok },
		read: func(path string) ([]byte, error) {
			data, ok := files[path]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return []byte(data), nil
		},
	}
}

func mustLoad(t *testing.T, text string, around surroundings) *File {
	t.Helper()
	f, err := loadBytes("stile.yaml", []byte(text), around)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return f
}

const smallest = `issuers: [{issuer: "https://idp.example.com"}]
servers: {notes: {path: /mcp, url: "http://127.0.0.1:9000/mcp", policy: {baseline: "notes:read"}}}
`

func TestDefaults(t *testing.T) {
	f := mustLoad(t, smallest, fakeAround(nil, nil))
	got := []any{f.Listen, f.PublicURL, f.Audit, time.Duration(f.ShutdownTimeout), f.Servers[0].Value.Isolation}
	want := []any{"127.0.0.1:8080", "http://127.0.0.1:8080", "stderr", 10 * time.Second, "session"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestListeningOn(t *testing.T) {
	f := mustLoad(t, "listen: 127.0.0.1:0\n"+smallest, fakeAround(nil, nil))
	f.listeningOn("127.0.0.1:4711")
	if got := f.resource(&f.Servers[0].Value); got != "http://127.0.0.1:4711/mcp" {
		t.Errorf("the endpoint is %s", got)
	}
	f = mustLoad(t, "public_url: https://mcp.example.com\n"+smallest, fakeAround(nil, nil))
	f.listeningOn("127.0.0.1:4711")
	if got := f.resource(&f.Servers[0].Value); got != "https://mcp.example.com/mcp" {
		t.Errorf("the endpoint is %s", got)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	f := mustLoad(t, `listen: localhost:0
public_url: https://mcp.example.com:8443
data_dir: data
issuers:
  - issuer: https://idp.example.com
    audiences: [a, b]
    jwks_uri: https://idp.example.com/jwks
    metadata_url: https://idp.example.com/meta
    introspection: {url: "https://idp.example.com/i", client_id: me, client_secret: "${S}"}
    scope_claims: [scp]
    scope_prefix: "api://"
    grantable: ["notes:*"]
    subject_claim: oid
    algorithms: [EdDSA]
    clock_skew: 1m
    non_interactive_clients: [job]
    require_at_jwt: true
api_keys:
  - {name: ci, sha256: "file:hash", scopes: "notes:read notes:write"}
allowed_origins: [https://app.example.com]
allowed_hosts: [mcp.internal]
root_metadata: true
relay_issuer_metadata: true
audit: audit.log
session_keys: ["${K}"]
session_max_age: 12h
max_body: 1 MiB
body_timeout: 10s
keep_alive: "off"
refusal_window: off
shutdown_timeout: 1s
dangerously_open_to_everyone_on_the_network: true
cors: {origins: [https://page.example.com], headers: [X-A], expose: [X-B], credentials: true, max_age: "off"}
debug: {tap: tap.jsonl, max_message: 1KiB}
servers:
  z: {path: /z, url: "http://127.0.0.1:9000/mcp", transport: auto, sse: true, timeouts: {connect: 1s, request: 2s, maximum: "off"}, headers: {X-Key: "a ${S}"}, protocol: 2025, advertise: broad, in_band_challenge: true, policy: {baseline: "notes:read"}}
`, fakeAround(map[string]string{"S": "secret", "K": strings.Repeat("k", 32)}, map[string]string{"hash": strings.Repeat("a", 64) + "\r\n"}))
	f.source, f.policies, f.Servers[0].Value.Policy = nil, nil, nil
	want := &File{
		Listen: "localhost:0", PublicURL: "https://mcp.example.com:8443", DataDir: "data",
		Issuers: []Issuer{{Issuer: "https://idp.example.com", Audiences: []string{"a", "b"},
			JWKSURI: "https://idp.example.com/jwks", MetadataURL: "https://idp.example.com/meta",
			Introspection: &Introspection{URL: "https://idp.example.com/i", ClientID: "me", ClientSecret: "secret"},
			ScopeClaims:   []string{"scp"}, ScopePrefix: "api://", Grantable: []string{"notes:*"}, SubjectClaim: "oid",
			Algorithms: []string{"EdDSA"}, ClockSkew: Duration(time.Minute), NonInteractiveClients: []string{"job"}, RequireATJWT: true}},
		APIKeys:        []APIKey{{Name: "ci", SHA256: strings.Repeat("a", 64), Subject: "ci", Scopes: "notes:read notes:write"}},
		AllowedOrigins: []string{"https://app.example.com"}, AllowedHosts: []string{"mcp.internal"}, RootMetadata: true, RelayIssuerMetadata: true,
		Audit: "audit.log", SessionKeys: []string{strings.Repeat("k", 32)}, SessionMaxAge: Duration(12 * time.Hour),
		MaxBody: 1 << 20, BodyTimeout: Duration(10 * time.Second), KeepAlive: switchedOff, RefusalWindow: switchedOff,
		ShutdownTimeout: Duration(time.Second), OpenToEveryone: true,
		CORS:  CORS{Origins: []string{"https://page.example.com"}, Headers: []string{"X-A"}, Expose: []string{"X-B"}, Credentials: true, MaxAge: switchedOff},
		Debug: Debug{Tap: "tap.jsonl", MaxMessage: 1 << 10},
		Servers: ordered[Server]{{Name: "z", Value: Server{Path: "/z", URL: "http://127.0.0.1:9000/mcp",
			Isolation: "session", Transport: "auto", SSE: true,
			Timeouts: Timeouts{Connect: Duration(time.Second), Request: Duration(2 * time.Second), Maximum: switchedOff}, Protocol: "2025", Headers: map[string]string{"X-Key": "a secret"}, Advertise: "broad", InBandChallenge: true}}},
	}
	if diff := cmp.Diff(want, f, cmp.AllowUnexported(File{})); diff != "" {
		t.Error(diff)
	}
}

func TestServersKeepTheOrderOfTheFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("issuers: [{issuer: \"https://idp.example.com\"}]\nservers:\n")
	want := strings.Split("zebra apple mango kiwi banana", " ")
	for _, name := range want {
		fmt.Fprintf(&b, "  %s: {path: /%s, url: \"http://127.0.0.1:1\", policy: {baseline: a}}\n", name, name)
	}
	var got []string
	for _, s := range mustLoad(t, b.String(), fakeAround(nil, nil)).Servers {
		got = append(got, s.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInterpolate(t *testing.T) {
	around := fakeAround(map[string]string{"A": "1", "EMPTY": "", "NESTED": "${A}"}, nil)
	for _, tc := range []struct{ in, want, err string }{
		{"", "", ""},
		{"plain", "plain", ""},
		{"${A}", "1", ""},
		{"x${A}y${A}", "x1y1", ""},
		{"${EMPTY}", "", ""},
		{"${NESTED}", "${A}", ""},
		{"$$", "$", ""},
		{"$${A}", "${A}", ""},
		{"$$$${A}", "$${A}", ""},
		{"$A $ $5", "$A $ $5", ""},
		{"end$", "end$", ""},
		{"${B}", "", "not set"},
		{"${", "", "expected"},
		{"${}", "", "expected"},
		{"${1A}", "", "expected"},
		{"${A", "", "expected"},
		{"${A-b}", "", "expected"},
	} {
		got, _, err := around.interpolate(tc.in)
		if (err == nil) != (tc.err == "") || (err != nil && !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q: error %v, want one with %q", tc.in, err, tc.err)
		} else if got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"30s": 30 * time.Second, "1h30m": 90 * time.Minute, "off": -1} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", in, time.Duration(d), err)
		}
	}
	for _, in := range []string{"", "0", "0s", "-1s", "30", "1d", "1 h", "forever"} {
		if new(Duration).UnmarshalText([]byte(in)) == nil {
			t.Errorf("%q was taken for a time span", in)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]Size{"1": 1, "65536": 65536, "4MiB": 4 << 20, "512 KiB": 512 << 10, "64MiB": 64 << 20} {
		var s Size
		if err := s.UnmarshalText([]byte(in)); err != nil || s != want {
			t.Errorf("%s: %d, %v", in, s, err)
		}
	}
	for _, in := range []string{"", "0", "-1", "4MB", "4mib", "65MiB", "9223372036854775807KiB", "1.5MiB", "MiB", "0x10"} {
		if new(Size).UnmarshalText([]byte(in)) == nil {
			t.Errorf("%q was taken for a size", in)
		}
	}
}

// Plain scalars with colons mean the same in every place where YAML has them.
func TestColonsInsidePlainScalars(t *testing.T) {
	for _, tc := range []struct{ text, path, want string }{
		{"a: {b: notes:read}", "a.b", "notes:read"},
		{"a: {notes:read: x}", "a.notes:read", "x"},
		{"a: { n:a: [n:w], n:w: [n:r] }", "a.n:w[0]", "n:r"},
		{"a: {b: http://x:1/y}", "a.b", "http://x:1/y"},
		{`{"a":"b"}`, "a", "b"},
		{`{"a":{"b":1}}`, "a.b", "1"},
		{`{'a':b}`, "a", "b"},
		{`a: ["x:y", 'p:q', r:s]`, "a[2]", "r:s"},
		{"a: |\n  x:y\n", "a", "x:y\n"},
		{"a: x:y # c:d", "a", "x:y"},
		{"a: ::x", "a", "::x"},
		{"a: \ue000:b", "a", "\ue000:b"},
	} {
		src, found := parse("x", []byte(tc.text))
		if found != nil {
			t.Errorf("%q: %v", tc.text, found)
			continue
		}
		value, _, left := follow(src.root, nil, tc.path)
		got, _ := scalarText(value)
		if left != 0 || got != tc.want {
			t.Errorf("%q: %s is %q, want %q", tc.text, tc.path, got, tc.want)
		}
	}
}

// A problem's path leads to its value however odd the keys are, and otherwise to
// the nearest thing that is there.
func TestPlaces(t *testing.T) {
	src, found := parse("x", []byte(`a:
  b.c: [1, {d: x}]
  "[0]": y
  notes:*:
    - p
    - q.r: s
  b:
    c: z
`))
	if found != nil {
		t.Fatal(found)
	}
	for _, tc := range []struct {
		path, value  string
		line, column int
		shown        string
	}{
		{"a.b.c[1].d", "", 2, 16, "a.b.c[1].d"},
		{"a.b.c", "", 2, 8, "a.b.c"},
		{"a.[0]", "", 3, 10, "a.[0]"},
		{"a.notes:*", "", 4, 3, "a.notes:*"},
		{"a.notes:*[0]", "", 5, 7, "a.notes:*[0]"},
		{"a.notes:*[1].q.r", "", 6, 12, "a.notes:*[1].q.r"},
		{"a.notes:*[1].q.r", "q.r", 6, 7, "a.notes:*[1].q.r"},
		{"a.notes:*[7]", "", 4, 3, "a.notes:*"},
		{"a.notes:*[1].nope", "", 6, 7, "a.notes:*[1]"},
		{"a.nope.deeper", "", 1, 1, "a"},
		{"nope", "", 1, 1, "nope"},
		{"", "", 1, 1, ""},
	} {
		line, column, shown := src.place(problem.Problem{Path: tc.path, Value: tc.value})
		if line != tc.line || column != tc.column || shown != tc.shown {
			t.Errorf("%s: %d:%d %q, want %d:%d %q", tc.path, line, column, shown, tc.line, tc.column, tc.shown)
		}
	}
}

func TestClosest(t *testing.T) {
	names := []string{"listen", "issuers", "client_secret", "url", "path"}
	for in, want := range map[string]string{"lisen": "listen", "LISTEN": "listen", "client-secret": "client_secret",
		"isuer": "issuers", "listen_address": "listen", "uri": "url", "pth": "path", "colour": "", "x": "", "": ""} {
		if got := closest(in, names); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestShownLines(t *testing.T) {
	long := strings.Repeat("a", 100) + "X" + strings.Repeat("b", 100)
	for _, tc := range []struct {
		name, line string
		column     int
		secrets    []place
		text, at   string
	}{
		{"plain", "a: X", 4, nil, "a: X", "X"},
		{"tab", "a:\tX", 4, nil, "a: X", "X"},
		{"control", "a: \x1b[31mX", 9, nil, "a: ?[31mX", "X"},
		{"long", long, 101, nil, strings.Repeat("a", 19) + "X" + strings.Repeat("b", 50), "X"},
		{"behind a secret", "k: secret, X", 12, []place{{1, 4, 10}}, "k: ***, X", "X"},
		{"at a secret", "k: Secret", 4, []place{{1, 4, 0}}, "k: ***", "*"},
		{"inside a secret", "k: Secret", 7, []place{{1, 4, 10}}, "k: ***", "*"},
		{"two secrets", "a: bb, c: dddd, X", 17, []place{{1, 4, 6}, {1, 11, 15}}, "a: ***, c: ***, X", "X"},
		{"user in a URL", "http://me:pw@x/ X", 17, nil, "http://***@x/ X", "X"},
		{"end of the line", "abc", 4, nil, "abc", ""},
	} {
		s := &source{lines: []string{tc.line}, secrets: tc.secrets}
		text, column := s.shown(1, tc.column)
		if text != tc.text {
			t.Errorf("%s: got %q, want %q", tc.name, text, tc.text)
		}
		at := ""
		if runes := []rune(text); column <= len(runes) {
			at = string(runes[column-1])
		}
		if at != tc.at {
			t.Errorf("%s: the caret is under %q, want %q", tc.name, at, tc.at)
		}
	}
}

func TestSessionKeyIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f := &File{DataDir: dir, source: &source{name: "stile.yaml"}}
	first, err := f.sessionKeys()
	if err != nil || len(first) != 1 || len(first[0]) < minSessionKey {
		t.Fatalf("%q, %v", first, err)
	}
	second, err := f.sessionKeys()
	if err != nil || string(second[0]) != string(first[0]) {
		t.Errorf("the key changed between starts: %v", err)
	}
	path := filepath.Join(dir, sessionKeyFile)
	for name, want := range map[string]fs.FileMode{dir: 0o700, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, info.Mode().Perm(), want, err)
		}
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.sessionKeys(); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key that everyone may read was taken: %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("short"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.sessionKeys(); err == nil || !strings.Contains(err.Error(), "32 bytes") {
		t.Errorf("a short key was taken: %v", err)
	}
}

// Any bytes are either mistakes, each inside the file, or a configuration that
// can be built; never both and never neither.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(smallest))
	example, err := os.ReadFile(filepath.Join("testdata", "stile.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	scripts, err := filepath.Glob(filepath.Join("testdata", "script", "check_*.txtar"))
	if err != nil || len(scripts) == 0 {
		f.Fatal("no scripts", err)
	}
	for _, name := range scripts {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		_, text, _ := strings.Cut(string(data), "-- stile.yaml --\n")
		text, _, _ = strings.Cut(text, "-- want --\n")
		f.Add([]byte(text))
	}
	around := fakeAround(map[string]string{"IDP_SECRET": "s3cret-value", "NOTES_KEY": "key"}, map[string]string{"policy.yaml": "baseline: a"})
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := loadBytes("stile.yaml", data, around)
		if (file == nil) == (err == nil) {
			t.Fatalf("file %v and error %v", file, err)
		}
		if err == nil {
			config, opened, found := file.assemble(slog.New(slog.DiscardHandler))
			if len(found) > 0 {
				t.Fatalf("no mistakes, but: %v", found)
			}
			defer opened.Close()
			config.Audit = io.Discard
			if _, err := stile.New(config); err != nil {
				t.Fatalf("no mistakes, but: %v", err)
			}
			return
		}
		var found mistakes
		if !errors.As(err, &found) || len(found) == 0 {
			t.Fatalf("not mistakes: %v", err)
		}
		for _, m := range found {
			if m.src == nil || m.line < 1 || m.line > len(m.src.lines) || m.column < 1 ||
				m.column > utf8.RuneCountInString(m.src.lines[m.line-1])+1 {
				t.Fatalf("outside the file: %d:%d", m.line, m.column)
			}
			if m.Want == "" {
				t.Fatalf("a mistake that says nothing: %+v", m)
			}
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("a control character is shown: %q", line)
			}
		}
	})
}
