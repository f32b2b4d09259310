package doctor

import (
	"slices"
	"strings"

	"github.com/stile-mcp/stile/scope"
)

// class is a class of clients by what they do with a challenge.
type class struct {
	name, who string
	// issuer says that the first login asks for what the issuer lists, whatever the
	// resource says.
	issuer bool
}

var classes = []class{
	{name: "U", who: "add the new scopes to those they have: TypeScript SDK 2, go-sdk, Python SDK 2, Inspector, Goose"},
	{name: "O", who: "ask for exactly the challenge: VS Code, Python SDK 1, TypeScript SDK 1 without refresh tokens"},
	{name: "R", who: "refresh first: TypeScript SDK 1 and what is built on it"},
	{name: "N", who: "do not step up: Cursor, AI SDK, older mcp-remote"},
	{name: "N", who: "do not step up, and ask for what the issuer lists: Codex, Gemini CLI", issuer: true},
}

// judgeClients says for each class whether it could log in and, where an operation
// was named, step up.
func (v *visit) judgeClients() {
	for _, c := range classes {
		finish, why := v.finish(c)
		v.report.Clients = append(v.report.Clients, Verdict{Class: c.name, Who: c.who, Asks: v.asks(c), Finish: finish, Why: why})
	}
}

// asks are the scopes of the first login of such a client (REQ-51): those of the
// challenge, else of the metadata, else none.
func (v *visit) asks(c class) []string {
	if c.issuer {
		if len(v.servers) == 0 {
			return nil
		}
		return v.servers[0].Scopes
	}
	if w := v.wall.scopes(); len(w) > 0 {
		return w
	}
	if v.metadata != nil {
		return v.metadata.ScopesSupported
	}
	return nil
}

// keepOut are the findings that keep a client from its first login.
var keepOut = []string{"challenge-none", "challenge-no-bearer", "challenge-comma", "challenge-malformed", "first-403", "redirect", "not-mcp",
	"metadata-missing", "metadata-no-issuer", "issuer-unreachable", "issuer-differs", "issuer-no-s256", "issuer-endpoint", "issuer-no-code",
	"login-failed", "login-scope-refused", "login-resource-refused", "token-refused"}

// holdUp are the findings that keep every client from stepping up.
var holdUp = []string{"step-up-no-challenge", "step-up-no-error", "step-up-other-error", "step-up-no-scope", "step-up-in-band", "step-up-none", "step-up-status", "step-up-login-failed", "step-up-failed"}

func (v *visit) finish(c class) (finish, why string) {
	if v.report.Has("open") {
		return "yes", "no token is asked for"
	}
	if v.barred != "" {
		return "no", catalogue[v.barred].title
	}
	if c.name == "N" {
		return v.finishWithoutStepUp(c)
	}
	if v.refusal == nil && v.report.StepUp == nil {
		if v.visitor != nil {
			return "perhaps", "the first login worked; a step-up was not tried"
		}
		return "perhaps", "nothing stands in the way of the first login; neither it nor a step-up was tried"
	}
	if v.refusal != nil && v.refusal.broken != "" {
		why := catalogue[v.refusal.broken].title
		if v.refusal.broken == "challenge-comma" {
			why += "; only the Python SDKs read it"
		}
		return "no", why
	}
	if id := v.firstOf(holdUp); id != "" {
		return "no", catalogue[id].title
	}
	return v.finishStepUp(c)
}

// finishStepUp is for a challenge that can be read.
func (v *visit) finishStepUp(c class) (finish, why string) {
	if c.name == "R" {
		switch v.refreshed {
		case "same":
			return "no", "a refresh brings the scopes of before, and they give up at the second refusal"
		case "refused":
			return "yes", "the issuer refuses to refresh while the challenge waits, so that they log in anew"
		case "":
			return "perhaps", "only if the first login gives no refresh token, or the issuer refuses to refresh while a challenge waits"
		}
	}
	if c.name != "U" && v.report.Has("challenge-unstable") {
		return "no", catalogue["challenge-unstable"].title
	}
	if c.name != "U" && len(v.dropped()) > 0 {
		return "no", "they would lose " + clean(strings.Join(v.dropped(), " "), 100) + ", which the challenge leaves out"
	}
	if v.visitor != nil && v.report.StepUp != nil && v.report.StepUp.Outcome == "succeeded" {
		return "yes", "the operation succeeded after one more login"
	}
	return "yes", "the challenge can be read and asks for all it needs"
}

// finishWithoutStepUp is for clients that get what they ask for first, or nothing.
func (v *visit) finishWithoutStepUp(c class) (finish, why string) {
	first := v.asks(c)
	if c.issuer && len(first) == 0 {
		return "perhaps", "the issuer lists no scopes, so that they ask for none and get what it gives by itself"
	}
	if c.issuer {
		if lacks := scope.Set(v.asks(class{})).Without(first); len(lacks) > 0 {
			return "no", "the issuer does not list " + clean(strings.Join(lacks, " "), 100) + ", so that they do not ask for it"
		}
	}
	switch {
	case v.refusal == nil:
		return "perhaps", "they get what the first login asks for, and nothing after it"
	case len(v.refusal.scopes()) == 0:
		return "no", "they get what the first login asks for, which is not enough"
	}
	for _, s := range v.refusal.scopes() {
		if !slices.Contains(first, s) && (c.issuer || !slices.Contains(v.held, s)) {
			return "no", "the first login does not ask for " + clean(s, 100) + "; a broad profile for them would"
		}
	}
	return "yes", "the first login asks for all that the operation needs"
}

// firstOf is the first of these findings that is in the report.
func (v *visit) firstOf(ids []string) string {
	i := slices.IndexFunc(ids, v.report.Has)
	if i < 0 {
		return ""
	}
	return ids[i]
}
