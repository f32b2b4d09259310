package doctor

import "slices"

// The classes of clients by what they do with a challenge.
var classes = []struct{ class, who string }{
	{"U", "clients that add the new scopes to those they have: TypeScript SDK 2, go-sdk, Python SDK 2, Inspector, Goose"},
	{"O", "clients that ask for exactly the challenge: VS Code, Python SDK 1, TypeScript SDK 1 without refresh tokens"},
	{"R", "clients that refresh first: TypeScript SDK 1 and what is built on it"},
	{"N", "clients that do not step up: Gemini CLI, Codex, Cursor, older mcp-remote"},
}

// judgeClients says for each class whether it could log in and, where an operation
// was named, step up.
func (v *visit) judgeClients() {
	for _, c := range classes {
		finish, why := v.finish(c.class)
		v.report.Clients = append(v.report.Clients, Verdict{Class: c.class, Who: c.who, Finish: finish, Why: why})
	}
}

// keepOut are the findings that keep a client from its first login.
var keepOut = []string{"challenge-none", "challenge-no-bearer", "challenge-comma", "challenge-malformed", "first-403", "not-mcp",
	"metadata-missing", "metadata-no-issuer", "issuer-unreachable", "issuer-differs", "issuer-no-s256", "issuer-endpoint", "token-refused"}

// holdUp are the findings that keep every client from stepping up.
var holdUp = []string{"step-up-no-challenge", "step-up-no-error", "step-up-other-error", "step-up-no-scope", "step-up-in-band", "step-up-none", "step-up-status"}

func (v *visit) finish(class string) (finish, why string) {
	if v.report.Has("open") {
		return "yes", "no token is asked for"
	}
	if id := v.firstOf(keepOut); id != "" {
		return "no", catalogue[id].title
	}
	if class == "N" {
		return v.finishWithoutStepUp()
	}
	if v.options.Call == nil || v.options.Token == "" {
		return "perhaps", "the first login can work; a step-up was not tried (name an operation to try it)"
	}
	if id := v.firstOf(holdUp); id != "" {
		return "no", catalogue[id].title
	}
	switch {
	case v.refusal == nil || v.refusal.bearer == nil:
		return "no", "the challenge cannot be read"
	case class == "O" && len(v.dropped()) > 0:
		return "no", catalogue["step-up-drops-held"].title
	case class != "U" && v.report.Has("challenge-unstable"):
		return "no", catalogue["challenge-unstable"].title
	case class == "R":
		return "perhaps", "only if the first login gives no refresh token, or the authorization server refuses to refresh while a challenge is pending"
	}
	return "yes", "the challenge can be read and asks for all it needs"
}

// finishWithoutStepUp is for clients that get what they ask for first, or nothing.
func (v *visit) finishWithoutStepUp() (finish, why string) {
	if v.refusal == nil {
		return "perhaps", "gets what the first login asks for, and nothing after it"
	}
	first := v.wall.scopes()
	if len(first) == 0 && v.metadata != nil {
		first = v.metadata.ScopesSupported
	}
	for _, s := range v.refusal.scopes() {
		if !slices.Contains(first, s) && !slices.Contains(v.held, s) {
			return "no", "the first login does not ask for " + clean(s, 100) + "; a broad profile for such clients would"
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
