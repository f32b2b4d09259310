package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/stiletest"
)

// story tells what goes over the wire in words and in the lines that matter, for
// a terminal of 80 columns, and keeps it for the page.
type story struct {
	out      io.Writer
	demo     *demo
	person   *demoPerson
	recorder stiletest.Recorder
	begun    time.Time
	told     int                  // how many exchanges have been told
	all      []stiletest.Exchange // everything told
	chapters []demoChapter
}

func newStory(out io.Writer, d *demo) *story {
	s := &story{out: out, demo: d, begun: time.Now()}
	s.person = &demoPerson{server: d.server}
	s.recorder.Base = s.person
	return s
}

func (s *story) opening() {
	fmt.Fprintf(s.out, `Everything in one process, on loopback:

  an MCP server with notes    %s
  Stile in front of the notes %s

The notes server knows nothing of tokens; Stile issues them, since nobody else
does. A client made with the go-sdk now does what Claude or VS Code would do.
`, s.demo.upstream, s.demo.url)
}

func (s *story) chapter(title string) {
	s.chapters = append(s.chapters, demoChapter{Title: title})
	fmt.Fprintf(s.out, "\n%s\n%s\n", title, strings.Repeat("=", len(title)))
}

func (s *story) say(text string) {
	last := &s.chapters[len(s.chapters)-1]
	last.Say = text
	fmt.Fprintf(s.out, "\n%s\n", text)
}

// step is the step that is told now.
func (s *story) step() *demoStep {
	steps := s.chapters[len(s.chapters)-1].Steps
	return &steps[len(steps)-1]
}

// exchanges tells what has gone over the wire since the last time.
func (s *story) exchanges() {
	seen := s.recorder.Exchanges()
	for _, e := range seen[s.told:] {
		s.all = append(s.all, e)
		s.exchange(e)
	}
	s.told = len(seen)
}

// exchange tells one request and its answer. The GET stream and notifications
// are left out: they only keep the connection.
func (s *story) exchange(e stiletest.Exchange) {
	u, err := url.Parse(e.URL)
	if err != nil || e.Status == 0 {
		return
	}
	switch {
	case u.Path == demoPath:
		s.message(e)
	case strings.HasPrefix(u.Path, "/.well-known/oauth-protected-resource"):
		s.line(e, "GET "+u.Path, "where do I get a token?")
		s.detail(member(e.ResponseBody, "authorization_servers"), member(e.ResponseBody, "scopes_supported"))
	case strings.HasPrefix(u.Path, "/.well-known/"):
		s.line(e, "GET "+u.Path, "what can you do?")
	case u.Query().Get("response_type") == "code":
		s.line(e, "GET "+u.Path, "may I? (the person's browser)")
		s.detail("scope    = "+u.Query().Get("scope"), "resource = "+u.Query().Get("resource"))
		s.consent()
	case e.Method == http.MethodPost && strings.Contains(e.RequestBody, "grant_type="):
		s.line(e, "POST "+u.Path, "the code for a token, please")
		s.detail("granted: " + member(e.ResponseBody, "scope"))
	}
}

// consent tells what the person was shown before the answer.
func (s *story) consent() {
	shown := s.person.shown()
	// The go-sdk asks in another order each time.
	slices.SortFunc(shown.Scopes, func(a, b portal.Scope) int {
		if a.Granted != b.Granted {
			return map[bool]int{true: -1, false: 1}[a.Granted]
		}
		return strings.Compare(a.Name, b.Name)
	})
	s.step().Consent = &shown
	s.detail("The person is asked whether " + shown.Client.Name + " may:")
	for _, one := range shown.Scopes {
		mark := "new:   "
		if one.Granted {
			mark = "before:"
		}
		s.detail("  " + mark + " " + one.Name + ", " + one.Description)
	}
	if shown.Operation != "" {
		s.detail("  needed for " + shown.Operation)
	}
}

// message tells one MCP message to Stile.
func (s *story) message(e stiletest.Exchange) {
	var m struct {
		Method string `json:"method"`
		ID     any    `json:"id"`
		Params struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"params"`
	}
	if json.Unmarshal([]byte(e.RequestBody), &m) != nil || m.ID == nil {
		return
	}
	what := m.Method
	if m.Params.Name != "" {
		what += " " + m.Params.Name + " " + string(m.Params.Arguments)
	}
	s.line(e, "POST "+demoPath, what)
	if c := e.Response.Get("WWW-Authenticate"); c != "" {
		s.challenge(c)
	}
	var answer struct {
		Result struct {
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
			IsError bool `json:"isError"`
		} `json:"result"`
	}
	if json.Unmarshal([]byte(e.ResponseBody), &answer) == nil && answer.Result.IsError && len(answer.Result.Content) > 0 {
		s.detail("isError: " + answer.Result.Content[0].Text)
	}
}

func (s *story) line(e stiletest.Exchange, request, meaning string) {
	last := &s.chapters[len(s.chapters)-1]
	last.Steps = append(last.Steps, demoStep{At: e.At.Sub(s.begun), Took: e.Took, Request: request, Meaning: meaning, Status: e.Status})
	fmt.Fprintf(s.out, "\n  client → %s\n      %s\n  ← %d\n", request, meaning, e.Status)
}

// challenge takes the header apart, a parameter a line. A value that would not
// fit stands on a line of its own.
func (s *story) challenge(header string) {
	fmt.Fprintln(s.out, "      WWW-Authenticate:")
	step := s.step()
	defer func(before int) { step.Details = step.Details[:before] }(len(step.Details)) // told as parameters
	for parameter := range strings.SplitSeq(header, ", ") {
		name, value, _ := strings.Cut(parameter, "=")
		step.Challenge = append(step.Challenge, demoParameter{Name: strings.TrimPrefix(name, "Bearer "), Value: strings.Trim(value, `"`)})
		if len(parameter) <= width-8 {
			s.detail("  " + parameter)
			continue
		}
		s.detail("  "+name+"=", wrap(value, "    "))
	}
}

// width is what a line may have, in columns.
const width = 80

// wrap breaks text between words so that it fits behind an indentation.
func wrap(text, indent string) string {
	var b strings.Builder
	column := width
	for word := range strings.FieldsSeq(text) {
		if column+1+len(word) > width-len("      ") && column > len(indent) {
			if b.Len() > 0 {
				b.WriteString("\n      ")
			}
			b.WriteString(indent)
			column = len(indent)
		} else {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

func (s *story) detail(lines ...string) {
	step := s.step()
	for _, l := range lines {
		if l != "" {
			step.Details = append(step.Details, l)
			fmt.Fprintf(s.out, "      %s\n", l)
		}
	}
}

// invitation says how to go on by hand.
func (s *story) invitation(ctx context.Context) error {
	token, err := s.person.token(ctx, s.demo, "notes:read")
	if err != nil {
		return err
	}
	link, err := s.demo.server.SetupLink(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, `
Now you. It stays up until Ctrl-C. What happened, drawn:

  %s

With a client of yours. Make an account first, with a link that works once:

  %s

%s
By hand. A token with notes:read, good for ten minutes:

TOKEN=%s

Refused, with the header a client steps up by:

curl -i %s -H "Authorization: Bearer $TOKEN" \
  -H 'Content-Type: application/json' \
  -H 'Accept: application/json, text/event-stream' \
  -d '{"jsonrpc":"2.0","id":1,"method":"tools/call",
       "params":{"name":"delete_note","arguments":{"id":"1"}}}'

In front of a server of yours, with scopes made from its own hints:

go run ./cmd/stile serve -- npx -y your-server

And with a configuration that init makes from them, for you to go on from:

go run ./cmd/stile init -- npx -y your-server
go run ./cmd/stile serve -c stile.yaml
`, s.demo.public+pageDemo, link, tellClients("notes", s.demo.url), token, s.demo.url)
	return nil
}

// member is one member of a JSON object, as text, with its name.
func member(object, name string) string {
	var m map[string]json.RawMessage
	if json.Unmarshal([]byte(object), &m) != nil || m[name] == nil {
		return ""
	}
	return name + " = " + string(m[name])
}

// textOf is the text of a tool result.
func textOf(r *mcp.CallToolResult) string {
	var b strings.Builder
	for _, c := range r.Content {
		if t, ok := c.(*mcp.TextContent); ok {
			b.WriteString(t.Text)
		}
	}
	return b.String()
}
