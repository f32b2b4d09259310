package stiletest_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

// fakeT takes down what a helper reports.
type fakeT struct {
	testing.TB
	mu     sync.Mutex
	errors []string
}

func (f *fakeT) Helper() {}

func (f *fakeT) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

func (f *fakeT) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// run plays a transcript and returns what was reported.
func run(t *testing.T, transcript string, env stiletest.FlowEnv) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "flow.txtar")
	if err := os.WriteFile(file, []byte(transcript), 0o600); err != nil {
		t.Fatal(err)
	}
	return runFile(t, file, env)
}

func runFile(t *testing.T, file string, env stiletest.FlowEnv) []string {
	f := &fakeT{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		stiletest.RunFlow(f, file, env)
	}()
	<-done
	return f.errors
}

// gate is a handler with all that transcripts talk about: it refuses who has no
// token, and passes on who has.
func gate(upstream http.Handler) http.Handler {
	count := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count++
		id := fmt.Sprintf("req-%d", count)
		w.Header().Set("X-Request-Id", id)
		w.Header()["Vary"] = []string{"Origin", "Accept"}
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("WWW-Authenticate", `Bearer scope="a b"`)
			w.WriteHeader(401)
			fmt.Fprintf(w, `{"request_id":%q}`, id)
			return
		}
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, ": ok\n\n")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		r.Header.Del("Authorization")
		w.Header().Set("Mcp-Session-Id", "session-of-"+r.URL.Query().Get("who"))
		upstream.ServeHTTP(w, r)
	})
}

const refused = `Without a token it is refused.

-- request 1 --
POST /mcp
Content-Type: application/json

{"id":1}
-- upstream 1 --
nothing
-- response 1 --
HTTP/1.1 401 Unauthorized
Content-Type: application/json
Vary: Origin
Vary: Accept
WWW-Authenticate: Bearer scope="a b"
X-Request-Id: ${REQUEST_ID}
!Mcp-Session-Id

{"request_id":"${REQUEST_ID}"}
`

const passed = `With one it passes, and the session is used again.

-- request 1 --
POST /mcp?who=alice
Content-Type: application/json
Authorization: Bearer ${TOKEN:scopes=a b}

{"id":1}
-- upstream 1 --
POST /mcp
Content-Type: application/json
!Authorization

{"id":1}
-- response 1 --
HTTP/1.1 200 OK
Content-Type: application/json
Mcp-Session-Id: ${SESSION=}
Vary: Origin
Vary: Accept
X-Request-Id: ${ANY}

{"id":1,"result":{}}
-- request 2 --
POST /mcp?who=alice
Mcp-Session-Id: ${SESSION}
Authorization: Bearer ${TOKEN:scopes=a b}

{"id":2}
-- upstream 2 --
POST /mcp
Mcp-Session-Id: ${SESSION}

{"id":2}
-- response 2 --
HTTP/1.1 200 OK
Content-Type: application/json
Mcp-Session-Id: ${SESSION}
Vary: Origin
Vary: Accept
X-Request-Id: ${ANY}

{"id":1,"result":{}}
-- request 3 --
GET /mcp
Authorization: Bearer ${TOKEN:scopes=a b}
-- response 3 --
HTTP/1.1 200 OK
Content-Type: text/event-stream
Vary: Origin
Vary: Accept
X-Request-Id: ${ANY}

: ok

${OPEN}
`

func flowEnv(t *testing.T) stiletest.FlowEnv {
	upstream := stiletest.NewScripted(stiletest.AnswerJSON(200, `{"id":1,"result":{}}`))
	return stiletest.FlowEnv{
		Handler: gate(upstream), Upstream: upstream,
		Issuer: stiletest.NewIssuerServer(t, stiletest.IssuerOptions{}),
	}
}

func TestFlowPasses(t *testing.T) {
	for name, transcript := range map[string]string{"refused": refused, "passed": passed} {
		t.Run(name, func(t *testing.T) {
			if got := run(t, transcript, flowEnv(t)); len(got) > 0 {
				t.Errorf("reported %q, want nothing", got)
			}
		})
	}
}

// TestFlowFails changes one thing in a transcript that passes, and wants it
// found.
func TestFlowFails(t *testing.T) {
	tests := []struct {
		name, transcript, old, new, want string
	}{
		{"status", refused, "401 Unauthorized", "403 Forbidden", "- HTTP/1.1 403 Forbidden\n+ HTTP/1.1 401"},
		{"header value", refused, `"a b"`, `"a c"`, `- WWW-Authenticate: Bearer scope="a c"`},
		{"header missing in transcript", refused, "Vary: Accept\n", "", "+ Vary: Accept"},
		{"header missing in answer", refused, "Vary: Origin\n", "Server: x\nVary: Origin\n", "- Server: x"},
		{"absent header is there", refused, "!Mcp-Session-Id", "!X-Request-Id", "X-Request-Id was expected to be absent"},
		{"body", refused, `{"request_id":"`, `{"id":"`, `- {"id":"`},
		{"body has a line more", refused, "${REQUEST_ID}\"}\n", "${REQUEST_ID}\"}\n\n", "differs"},
		{"request id differs", refused, `{"request_id":"${REQUEST_ID}"}`, `{"${REQUEST_ID}":"${REQUEST_ID}"}`, "${REQUEST_ID} is"},
		{"upstream saw something", passed, "POST /mcp\nContent-Type: application/json\n!Authorization\n\n{\"id\":1}\n", "nothing\n", "nothing was expected to reach it"},
		{"upstream saw nothing", refused, "nothing", "POST /mcp", "one request was expected, 0 reached it"},
		{"upstream method", passed, "-- upstream 1 --\nPOST /mcp", "-- upstream 1 --\nPUT /mcp", "- PUT /mcp\n+ POST /mcp"},
		{"upstream header", passed, "-- upstream 1 --\nPOST /mcp\nContent-Type: application/json", "-- upstream 1 --\nPOST /mcp\nContent-Type: text/plain", "- Content-Type: text/plain"},
		{"upstream header not there", passed, "!Authorization", "X-Other: 1", "- X-Other: 1"},
		{"upstream header there", passed, "!Authorization", "!Content-Type", "Content-Type was expected to be absent"},
		{"upstream body", passed, "{\"id\":1}\n-- response 1", "{\"id\": 1}\n-- response 1", `- {"id": 1}`},
		{"session", passed, "?who=alice\nMcp-Session-Id", "?who=bob\nMcp-Session-Id", "- Mcp-Session-Id: ${SESSION}\n+ Mcp-Session-Id: session-of-bob"},
		{"stream does not go on", refused, "${REQUEST_ID}\"}", "${REQUEST_ID}\"}x${OPEN}", "whether the stream goes on"},
		{"unknown variable", refused, "/mcp\n", "/${PATH}\n", "${PATH}: no such variable"},
		{"bad token", passed, "scopes=a b", "scope=a b", `"scope": scopes, sub`},
		{"bad section", refused, "-- upstream 1 --", "-- uptream 1 --", `section "uptream 1"`},
		{"step without request", refused, "-- response 1 --", "-- response 2 --", "begin with their request"},
		{"section twice", refused, "-- response 1 --", "-- upstream 1 --", "unknown or twice"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			transcript := strings.Replace(test.transcript, test.old, test.new, 1)
			if transcript == test.transcript {
				t.Fatalf("%q is not in the transcript", test.old)
			}
			got := strings.Join(run(t, transcript, flowEnv(t)), "\n")
			if !strings.Contains(got, test.want) {
				t.Errorf("reported:\n%s\nwant in it:\n%s", got, test.want)
			}
		})
	}
}

// TestFlowStreamThatDoesNotEnd ends at the timeout of the step.
func TestFlowStreamThatDoesNotEnd(t *testing.T) {
	env := flowEnv(t)
	env.Timeout = time.Second
	transcript := strings.Replace(passed, "\n${OPEN}", "", 1)
	got := strings.Join(run(t, transcript, env), "\n")
	if want := "false was expected, it is true"; !strings.Contains(got, want) {
		t.Errorf("reported:\n%s\nwant in it: %s", got, want)
	}
}

// TestFlowUpdate takes the response sections away or spoils them and has them
// written anew; what is written must pass, and keep what the old ones asserted.
func TestFlowUpdate(t *testing.T) {
	spoilt := strings.NewReplacer(`Bearer scope="a b"`, "Basic", `{"request_id":"${REQUEST_ID}"}`, "{}").Replace(refused)
	missing, _, _ := strings.Cut(refused, "-- response 1 --")
	for name, transcript := range map[string]string{"spoilt": spoilt, "missing": missing} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "flow.txtar")
			if err := os.WriteFile(file, []byte(transcript), 0o600); err != nil {
				t.Fatal(err)
			}
			withUpdate(t, func() {
				if got := runFile(t, file, flowEnv(t)); len(got) > 0 {
					t.Errorf("reported %q, want nothing", got)
				}
			})
			written, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := refused
			if name == "missing" {
				want = strings.Replace(want, "!Mcp-Session-Id\n", "", 1)
			}
			if string(written) != want {
				t.Errorf("written:\n%s\nwant:\n%s", written, want)
			}
		})
	}
}

// TestFlowUpdateWhole writes every response of a transcript with a session and a
// stream that goes on; what was written passes against another server.
func TestFlowUpdateWhole(t *testing.T) {
	bare := passed
	for n := 1; n <= 3; n++ {
		before, after, _ := strings.Cut(bare, fmt.Sprintf("-- response %d --\n", n))
		_, rest, found := strings.Cut(after, fmt.Sprintf("-- request %d --", n+1))
		if bare = before; found {
			bare += fmt.Sprintf("-- request %d --", n+1) + rest
		}
	}
	file := filepath.Join(t.TempDir(), "flow.txtar")
	if err := os.WriteFile(file, []byte(bare), 0o600); err != nil {
		t.Fatal(err)
	}
	withUpdate(t, func() {
		env := flowEnv(t)
		env.Timeout = time.Second
		if got := runFile(t, file, env); len(got) > 0 {
			t.Errorf("reported %q, want nothing", got)
		}
	})
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(passed, "X-Request-Id: ${ANY}", "X-Request-Id: ${REQUEST_ID}"); string(written) != want {
		t.Errorf("written:\n%s\nwant:\n%s", written, want)
	}
	if got := runFile(t, file, flowEnv(t)); len(got) > 0 {
		t.Errorf("what was written does not pass: %q", got)
	}
}

// TestFlowRaw sends what no client of net/http would: two Authorization headers
// of odd spelling, and a length of its own.
func TestFlowRaw(t *testing.T) {
	upstream := stiletest.NewScripted(nil)
	const text = `
-- request 1 --
POST /a%2fb HTTP/1.1
Host: mcp.example.com
authorization: one
AUTHORIZATION: two
Content-Length: 3

abcdef
-- upstream 1 --
POST /a/b
Authorization: one
Authorization: two

abc
-- response 1 --
HTTP/1.1 202 Accepted
-- request 2 --
POST / HTTP/1.1
Bad Header: x
-- upstream 2 --
nothing
-- response 2 --
HTTP/1.1 400 Bad Request: invalid header name
Content-Type: text/plain; charset=utf-8

400 Bad Request: invalid header name
`
	got := run(t, text, stiletest.FlowEnv{Handler: upstream, Upstream: upstream})
	if len(got) > 0 {
		t.Errorf("reported %q", got)
	}
	if host := upstream.Recorded()[0].Host; host != "mcp.example.com" {
		t.Errorf("Host %q", host)
	}
}

// TestFlowNeeds says what the environment lacks.
func TestFlowNeeds(t *testing.T) {
	for want, env := range map[string]stiletest.FlowEnv{
		"FlowEnv.Issuer is not set":   {Handler: http.NotFoundHandler(), Upstream: stiletest.NewScripted(nil)},
		"FlowEnv.Upstream is not set": {Handler: http.NotFoundHandler(), Issuer: stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})},
	} {
		if got := strings.Join(run(t, passed, env), "\n"); !strings.Contains(got, want) {
			t.Errorf("reported %s, want in it: %s", got, want)
		}
	}
	if got := runFile(t, filepath.Join(t.TempDir(), "none.txtar"), stiletest.FlowEnv{}); len(got) != 1 || !strings.Contains(got[0], "none.txtar") {
		t.Errorf("reported %q", got)
	}
}

// TestFlowUpdateLeavesTheRest does not touch sections that match, nor hide what
// the upstream saw.
func TestFlowUpdateLeavesTheRest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "flow.txtar")
	transcript := strings.Replace(passed, "!Authorization", "X-Other: 1", 1)
	if err := os.WriteFile(file, []byte(transcript), 0o600); err != nil {
		t.Fatal(err)
	}
	withUpdate(t, func() {
		if got := runFile(t, file, flowEnv(t)); len(got) != 1 || !strings.Contains(got[0], "step 1: upstream") {
			t.Errorf("reported %q, want the upstream of step 1", got)
		}
	})
	if written, err := os.ReadFile(file); err != nil || string(written) != transcript {
		t.Errorf("the file was changed (%v):\n%s", err, written)
	}
}

// TestFlowTokens looks at the tokens a transcript can ask for.
func TestFlowTokens(t *testing.T) {
	upstream := stiletest.NewScripted(nil)
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	const text = `
-- request 1 --
POST /
A: ${TOKEN:scopes=x y;sub=bob;client=c;exp=-1m}
B: ${TOKEN:scopes=x y;sub=bob;client=c;exp=-1m}
C: ${TOKEN:scopes=x y;sub=bob;client=c;exp=-1m;n=2}
D: ${TOKEN:omit=exp,scope;aud=https://other/;typ=JWT;alg=none}
E: ${ISSUER} ${WHO}

x
-- response 1 --
HTTP/1.1 202 Accepted
`
	env := stiletest.FlowEnv{Handler: upstream, Issuer: issuer, Audience: "https://here/mcp", Vars: map[string]string{"WHO": "me"}}
	if got := run(t, text, env); len(got) > 0 {
		t.Fatalf("reported %q", got)
	}
	h := upstream.Recorded()[0].Header
	if h.Get("A") != h.Get("B") || h.Get("A") == h.Get("C") {
		t.Error("the same text must be the same token, and another n another one")
	}
	header, claims := decode(t, h.Get("A"))
	if claims["sub"] != "bob" || claims["scope"] != "x y" || claims["client_id"] != "c" || claims["aud"] != "https://here/mcp" || header["typ"] != "at+jwt" {
		t.Errorf("token A: %v %v", header, claims)
	}
	if exp := int64(claims["exp"].(float64)); exp > time.Now().Unix()-30 {
		t.Errorf("token A expires at %d, want a minute ago", exp)
	}
	header, claims = decode(t, h.Get("D"))
	if claims["exp"] != nil || claims["aud"] != "https://other/" || header["typ"] != "JWT" || header["alg"] != "none" {
		t.Errorf("token D: %v %v", header, claims)
	}
	if got, want := h.Get("E"), issuer.URL()+" me"; got != want {
		t.Errorf("E is %q, want %q", got, want)
	}
}
