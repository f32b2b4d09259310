package bridge

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/stepup"
)

// What a client is told when a request did not get through follows DES-21: a login
// that is not good enough is explained in the result of tools/call, as isError, since
// that is what hosts hand to the model, which tells the person and can go on by
// another way; a JSON-RPC error they mostly show as a failure of the server, or count
// towards giving it up. Other methods have no such result and get an error of
// challenge.CodeDenied. A server that cannot be reached, or answers with no MCP, is a
// failure, and a JSON-RPC error for every method; its code is the HTTP status that
// says the same.

// The JSON-RPC error codes that are used here.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeNoMethod       = -32601
	codeInternal       = -32603
	codeOwn            = -32000 // of an implementation
	codeMismatch       = -32020 // a header that does not repeat the body
)

var errNoResponse = errors.New("no JSON-RPC response")

// refusal is an answer that is no success.
type refusal struct {
	status int
	header http.Header
	body   []byte
	code   int  // of the JSON-RPC error in body
	isRPC  bool // body is one
}

// maxRefusal is how much of the body of a refusal is read.
const maxRefusal = 64 << 10

// readRefusal reads an answer that is no success, and closes it.
func readRefusal(a *remote.Reply) *refusal {
	defer a.Close()
	r := &refusal{status: a.Status, header: a.Header}
	r.body, _ = io.ReadAll(io.LimitReader(a.Body, maxRefusal)) // what there is
	if line, err := oneLine(r.body); err == nil {
		if m, err := envelope.Read(line); err == nil && m.Kind == envelope.Response && m.Failed {
			r.body, r.code, r.isRPC = line, m.Code, true
		}
	}
	return r
}

// message is the text of the JSON-RPC error in the body.
func (r *refusal) message() string {
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(r.body, &said, lenient) // what cannot be read says nothing
	return plain(said.Error.Message)
}

// refused answers a call that did not get through, by r or err.
func (c *call) refused(r *refusal, err error) {
	if c.ctx.Err() != nil {
		return // it was cancelled, or the end has come, which answers it
	}
	if err == nil && r.isRPC && r.status != http.StatusUnauthorized && r.status != http.StatusForbidden {
		c.answer(r.body)
		return
	}
	c.finish(c.b.explain(c.m, r, err, c.wasSent()))
}

// explain is the answer to a request that did not get through, in words; sent says
// that it may have reached the server.
func (b *bridge) explain(m *envelope.Message, r *refusal, err error, sent bool) []byte {
	id := m.At(m.ID)
	host := b.far.host()
	var login *stepup.Error
	switch {
	case errors.As(err, &login):
		text := fmt.Sprintf("%s was not done: %s. ", operation(m), plain(strings.TrimPrefix(login.Error(), "stepup: ")))
		if len(login.Scopes) > 0 {
			text += "Scopes that were asked for: " + plain(strings.Join(login.Scopes, ", ")) + ". "
		}
		return b.deny(m, login.Scopes, text+b.config.Advice)
	case err != nil && sent:
		b.log.Warn("the MCP server broke off", "error", err)
		return errorLine(id, http.StatusBadGateway, fmt.Sprintf("the MCP server at %s broke off before it answered: %s; the call may have been carried out, repeat it if that is safe", host, plain(err.Error())))
	case err != nil:
		b.log.Warn("the MCP server cannot be reached", "error", err)
		return errorLine(id, http.StatusBadGateway, fmt.Sprintf("the MCP server at %s cannot be reached: %s; see that it runs and that the URL is right, then repeat the call", host, plain(err.Error())))
	}
	switch need, wants := challenge.FromHeader(r.status, r.header); {
	case r.status == http.StatusUnauthorized:
		return b.deny(m, nil, fmt.Sprintf("The MCP server at %s did not accept the login for %s. %s", host, operation(m), b.config.Advice))
	case wants:
		text := fmt.Sprintf("The MCP server at %s refused %s: it needs %s, which this login does not have and could not get. ", host, operation(m), scopesText(need.Scopes))
		if need.Description != "" {
			text += "The server says: " + plain(need.Description) + ". "
		}
		return b.deny(m, need.Scopes, text+b.config.Advice)
	case r.status == http.StatusForbidden:
		text := fmt.Sprintf("The MCP server at %s refused %s", host, operation(m))
		if said := r.message(); said != "" {
			text += ": " + said
		}
		return b.deny(m, nil, text+". "+b.config.Advice)
	}
	b.log.Warn("the MCP server refused a request", "method", m.Method, "status", r.status)
	return errorLine(id, cmp.Or(statusCode(r.status), http.StatusBadGateway), fmt.Sprintf("the MCP server at %s answered with status %d %s; %s", host, r.status, http.StatusText(r.status), r.advice()))
}

// statusCode is the code of an error for a refusal: those that say when to come back
// are the server's own.
func statusCode(status int) int {
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return status
	}
	return 0
}

// advice is what can be done about a refusal that says nothing but its status.
func (r *refusal) advice() string {
	wait := "try again later"
	if after := plain(r.header.Get("Retry-After")); after != "" {
		wait = "try again after " + after
		if strings.Trim(after, "0123456789") == "" {
			wait += " s"
		}
	}
	switch {
	case r.status/100 == 3:
		return "it sends to " + plain(r.header.Get("Location")) + ": if that is the server, give that URL instead"
	case r.status == http.StatusTooManyRequests, r.status >= 500:
		return wait
	case r.status == http.StatusNotFound, r.status == http.StatusMethodNotAllowed:
		return "see that the URL is that of an MCP endpoint"
	}
	return "see that it is an MCP server"
}

// deny is the answer to a request whose login is not good enough.
func (b *bridge) deny(m *envelope.Message, scopes []string, text string) []byte {
	b.log.Warn("a request was not let in", "method", m.Method, "scopes", scopes, "text", text)
	return challenge.InBand{ID: m.At(m.ID), Tool: m.Method == "tools/call", Modern: isModern(m), Text: text, Required: scope.Set(scopes)}.Body()
}

func scopesText(scopes []string) string {
	switch len(scopes) {
	case 0:
		return "more scopes"
	case 1:
		return "the scope " + plain(scopes[0])
	}
	return "the scopes " + plain(strings.Join(scopes, ", "))
}

// operation names a request for a person: its method and what it acts on.
func operation(m *envelope.Message) string {
	var said struct {
		Params struct {
			Name string `json:"name"`
			URI  string `json:"uri"`
		} `json:"params"`
	}
	_ = json.Unmarshal(m.Raw, &said, lenient) // what cannot be read has no name
	return plain(strings.TrimSpace(m.Method + " " + said.Params.Name + said.Params.URI))
}

// host names the server in what a client is told.
func (f *far) host() string {
	u, err := url.Parse(f.b.config.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// plain makes the text of a stranger safe to show: one line, at most 300 bytes.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r >= 0x80 && r < 0xA0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strings.Trim(s, " .")
}

func errorLine(id jsontext.Value, code int, text string) []byte {
	quoted, _ := jsontext.AppendQuote(nil, text) // what is no UTF-8 is mended
	return responseLine(id, "error", fmt.Appendf(nil, `{"code":%d,"message":%s}`, code, quoted))
}

func responseLine(id jsontext.Value, member string, value []byte) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"%s":%s}`, id, member, value)
}
