package doctor

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/challenge"
)

// wall is a refusal with its challenge: what a client has to get over.
type wall struct {
	status int
	values []string          // of WWW-Authenticate, one a line
	bearer *challenge.Parsed // nil: no client can read one
	broken string            // the finding that says why
}

// get is a parameter of the challenge, empty where it is absent.
func (w *wall) get(name string) string {
	if w == nil || w.bearer == nil {
		return ""
	}
	value, _ := w.bearer.Get(name)
	return value
}

// scopes are what the challenge asks for.
func (w *wall) scopes() []string { return strings.Fields(w.get("scope")) }

// header is the field as it came.
func (w *wall) header() string { return strings.Join(w.values, " | ") }

// readChallenge reads WWW-Authenticate, and says what in its form some client
// cannot read (DES-10 to DES-12). What it asks for is judged elsewhere.
func (v *visit) readChallenge(a answer) *wall {
	w := &wall{status: a.status, values: a.header.Values("WWW-Authenticate")}
	if len(w.values) == 0 {
		return w
	}
	if slices.ContainsFunc(w.values, commaAfterScheme) {
		w.broken = "challenge-comma"
		v.find(w.broken, w.header())
		return w
	}
	parsed, err := challenge.Parse(w.values)
	if err != nil {
		v.find("challenge-malformed", w.header()+" ("+err.Error()+")")
		if w.bearer = firstBearer(w.values); w.bearer == nil {
			w.broken = "challenge-malformed"
		}
		return w
	}
	i := slices.IndexFunc(parsed, isBearer)
	if i < 0 {
		w.broken = "challenge-no-bearer"
		v.find(w.broken, w.header())
		return w
	}
	w.bearer = &parsed[i]
	if i > 0 || len(parsed) > 1 {
		v.find("challenge-several", w.header())
	}
	v.judgeBearer(w)
	return w
}

// commaAfterScheme reports the form that looks right and is not: a comma ends the
// challenge, so that its parameters belong to nothing.
func commaAfterScheme(line string) bool {
	rest, found := strings.CutPrefix(strings.ToLower(strings.TrimSpace(line)), "bearer")
	return found && strings.HasPrefix(strings.TrimSpace(rest), ",")
}

func isBearer(p challenge.Parsed) bool { return strings.EqualFold(p.Scheme, "Bearer") }

// firstBearer finds a challenge that can be read among lines of which some cannot.
func firstBearer(values []string) *challenge.Parsed {
	for _, line := range values {
		parsed, err := challenge.Parse([]string{line})
		if err != nil {
			continue
		}
		if i := slices.IndexFunc(parsed, isBearer); i >= 0 {
			return &parsed[i]
		}
	}
	return nil
}

// judgeBearer looks at the form of one Bearer challenge.
func (v *visit) judgeBearer(w *wall) {
	p, header := w.bearer, w.header()
	if p.Scheme != "Bearer" {
		v.find("challenge-scheme-case", header)
	}
	for _, q := range p.Params {
		if q.Value == "" {
			v.find("challenge-empty-value", header)
		}
		if q.Name != "resource_metadata" && strings.ContainsAny(q.Value, `,"\`) {
			v.find("challenge-comma-in-value", header)
		}
		if q.Name == "error_description" && strings.Contains(q.Value, "=") {
			v.find("challenge-equals", header)
		}
		if q.Name != "scope" && strings.HasSuffix(q.Name, "scope") || q.Name != "error" && strings.HasSuffix(q.Name, "error") {
			v.find("challenge-name-suffix", header)
		}
	}
	for _, s := range w.scopes() {
		if challenge.CheckScope(s) != nil {
			v.find("challenge-scope-characters", header)
		}
		if s == "offline_access" {
			v.find("challenge-offline", header)
		}
	}
	if at := w.get("resource_metadata"); at != "" {
		v.judgeMetadataURL(at, header)
	}
}

func (v *visit) judgeMetadataURL(at, header string) {
	u, err := url.Parse(at)
	if err != nil || !u.IsAbs() || u.Host == "" {
		v.find("challenge-metadata-relative", header)
		return
	}
	if !sameOrigin(u, v.endpoint) {
		v.find("metadata-other-origin", at)
	}
}

// judgeFirstChallenge looks at what the 401 without a token says.
func (v *visit) judgeFirstChallenge() {
	w := v.wall
	v.report.Challenge = clean(w.header(), 1000)
	if len(w.values) == 0 {
		v.find("challenge-none", v.first.line())
		return
	}
	if w.bearer == nil {
		return
	}
	if w.get("resource_metadata") == "" {
		v.find("challenge-no-metadata", w.header())
	}
	if w.get("scope") == "" {
		v.find("challenge-no-scope", w.header())
	}
	if w.get("error") != "" {
		v.find("challenge-error-without-token", w.header())
	}
	again, err := v.post(initialize())
	if err == nil && again.status == v.first.status && !slices.Equal(again.header.Values("WWW-Authenticate"), w.values) {
		v.find("challenge-unstable", w.header()+" / "+strings.Join(again.header.Values("WWW-Authenticate"), " | "))
	}
	if v.first.rpc() == nil {
		v.find("refusal-no-json-rpc", v.first.line())
	}
}

// sameOrigin compares scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Host, b.Host)
}

// judgeStepUpChallenge looks at what a 403 says to a client that has a token.
func (v *visit) judgeStepUpChallenge(a answer) *wall {
	w := v.readChallenge(a)
	switch {
	case len(w.values) == 0:
		v.find("step-up-no-challenge", a.line())
		return w
	case w.bearer == nil:
		return w
	}
	if code := w.get("error"); code == "" {
		v.find("step-up-no-error", w.header())
	} else if code != "insufficient_scope" {
		v.find("step-up-other-error", w.header())
	}
	if w.get("scope") == "" {
		v.find("step-up-no-scope", w.header())
	}
	if w.get("resource_metadata") == "" {
		v.find("step-up-no-metadata", w.header())
	}
	if a.status != http.StatusForbidden {
		v.find("step-up-status", a.line())
	}
	if a.rpc() == nil {
		v.find("refusal-no-json-rpc", a.line())
	}
	if strings.Contains(string(a.body), "401") {
		v.find("step-up-401-in-body", clean(string(a.body), 200))
	}
	return w
}
