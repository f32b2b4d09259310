package doctor

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Severity says how bad a finding is.
type Severity int

// The severities, from advice to what keeps people out or lets strangers in.
const (
	Note Severity = iota
	Warning
	Error
)

func (s Severity) String() string { return [...]string{"note", "warning", "error"}[s] }

// MarshalText writes the severity as its word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Severity) UnmarshalText(text []byte) error {
	for _, one := range []Severity{Note, Warning, Error} {
		if one.String() == string(text) {
			*s = one
			return nil
		}
	}
	return fmt.Errorf("severity %q: expected note, warning or error", text)
}

// Finding is one thing that is wrong, or could be better.
type Finding struct {
	ID       string   `json:"id"` // stable, for scripts
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	Seen     string   `json:"seen"`            // the header or answer it was seen in
	Hurts    []string `json:"hurts,omitempty"` // clients
	Rule     []string `json:"rule"`            // RFC section, REQ-nn, DES-nn
	Mend     string   `json:"mend"`
}

// Verdict says whether a class of client can log in and step up.
type Verdict struct {
	Class  string   `json:"class"` // U, O, R or N
	Who    string   `json:"who"`
	Asks   []string `json:"asks,omitempty"` // the scopes of the first login
	Finish string   `json:"finish"`         // yes, no, perhaps
	Why    string   `json:"why"`
}

// LoginSeen is what a login has brought.
type LoginSeen struct {
	Asked   []string `json:"asked"`
	Granted []string `json:"granted"` // null where the issuer did not say
	Refresh bool     `json:"refresh_token"`
}

// StepUpSeen is what the named operation came to.
type StepUpSeen struct {
	Operation string   `json:"operation"`
	Challenge string   `json:"challenge,omitempty"`
	Asked     []string `json:"asked,omitempty"` // of the second login
	Granted   []string `json:"granted,omitempty"`
	// Outcome is "not refused", "refused inside the answer", "challenged", "challenged,
	// in a way that no client can follow", "the second login failed", "refused again"
	// or "succeeded".
	Outcome string `json:"outcome"`
}

// Provider is a known identity provider behind the server.
type Provider struct {
	Name  string   `json:"name"`
	Lacks []string `json:"lacks"`
	Setup string   `json:"setup"` // what to do there
	// Config and Direct are lines for stile.yaml: with the first every client gets
	// in; with the second the provider's own tokens are taken, for clients that are
	// told a client id.
	Config string `json:"stile_yaml"`
	Direct string `json:"stile_yaml_direct,omitempty"`
}

// Report is what was found, worst first, then in the order it was met.
type Report struct {
	URL       string      `json:"url"`
	Challenge string      `json:"challenge,omitempty"` // of the first 401, as it came
	Resource  string      `json:"resource,omitempty"`
	Issuers   []string    `json:"issuers,omitempty"`
	Login     *LoginSeen  `json:"login,omitempty"`
	Token     string      `json:"token,omitempty"` // what it says of itself, never itself
	StepUp    *StepUpSeen `json:"step_up,omitempty"`
	Findings  []Finding   `json:"findings"`
	Provider  *Provider   `json:"provider,omitempty"`
	Clients   []Verdict   `json:"clients,omitempty"`
	NotTried  []string    `json:"not_tried,omitempty"` // and how it could be
}

// Worst is the highest severity found, and whether anything was found.
func (r Report) Worst() (Severity, bool) {
	worst := Note
	for _, f := range r.Findings {
		worst = max(worst, f.Severity)
	}
	return worst, len(r.Findings) > 0
}

// Has reports whether a finding is in the report.
func (r Report) Has(id string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == id })
}

// find puts a finding in its place, once.
func (v *visit) find(id, seen string) {
	rule, ok := catalogue[id]
	if !ok {
		panic("doctor: no such finding: " + id)
	}
	if v.report.Has(id) {
		return
	}
	f := Finding{ID: id, Severity: rule.severity, Title: rule.title, Seen: clean(v.hide(seen), 700),
		Hurts: rule.hurts, Rule: rule.rule, Mend: rule.mend}
	at := slices.IndexFunc(v.report.Findings, func(g Finding) bool { return g.Severity < f.Severity })
	if at < 0 {
		at = len(v.report.Findings)
	}
	v.report.Findings = slices.Insert(v.report.Findings, at, f)
}

// notTried notes what was left out, and how to have it.
func (v *visit) notTried(what string) { v.report.NotTried = append(v.report.NotTried, what) }

// hide takes tokens out of a text.
func (v *visit) hide(s string) string {
	hidden := []string{v.options.Token}
	if v.visitor != nil && v.visitor.login != nil {
		hidden = append(hidden, v.visitor.login.AccessToken, v.visitor.login.RefreshToken)
	}
	for _, token := range hidden {
		if token != "" {
			s = strings.ReplaceAll(s, token, "<the token>")
		}
	}
	return s
}

// clean bounds a stranger's text and takes out what could move a terminal's cursor.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return s
}
