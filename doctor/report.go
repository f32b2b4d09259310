package doctor

import (
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
	Class  string `json:"class"` // U, O, R or N
	Who    string `json:"who"`
	Finish string `json:"finish"` // yes, no, perhaps
	Why    string `json:"why"`
}

// Report is what was found, worst first, then in the order it was met.
type Report struct {
	URL       string    `json:"url"`
	Challenge string    `json:"challenge,omitempty"` // of the first 401, as it came
	Resource  string    `json:"resource,omitempty"`
	Issuers   []string  `json:"issuers,omitempty"`
	Provider  string    `json:"provider,omitempty"` // a known identity provider
	Findings  []Finding `json:"findings"`
	Clients   []Verdict `json:"clients,omitempty"`
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
	f := Finding{ID: id, Severity: rule.severity, Title: rule.title, Seen: clean(v.hide(seen), 400),
		Hurts: rule.hurts, Rule: rule.rule, Mend: rule.mend}
	at := slices.IndexFunc(v.report.Findings, func(g Finding) bool { return g.Severity < f.Severity })
	if at < 0 {
		at = len(v.report.Findings)
	}
	v.report.Findings = slices.Insert(v.report.Findings, at, f)
}

// hide takes the token out of a text.
func (v *visit) hide(s string) string {
	if v.options.Token == "" {
		return s
	}
	return strings.ReplaceAll(s, v.options.Token, "<the token>")
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
