package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stile-mcp/stile/authserver/portal"
)

// Where the demo shows what happened.
const (
	pageDemo      = "/demo"
	pageDemoStyle = "/demo.css"
)

// demoChapter is a part of the story.
type demoChapter struct {
	Title string
	Steps []demoStep
	Say   string
}

// demoStep is one request of the client's and its answer.
type demoStep struct {
	At, Took         time.Duration // since the beginning; until the answer began
	Request, Meaning string
	Status           int
	Details          []string
	Challenge        []demoParameter
	Consent          *portal.Request // what the person was shown
}

// demoParameter is one parameter of a challenge.
type demoParameter struct{ Name, Value string }

// Means says what a parameter is for.
func (p demoParameter) Means() string {
	return map[string]string{
		"error":             "why: the token is good, but has too few scopes",
		"scope":             "all that the call needs, in one list",
		"resource_metadata": "where to find out who issues tokens",
		"error_description": "for people",
	}[p.Name]
}

// Refused reports whether the answer was no.
func (s demoStep) Refused() bool { return s.Status >= http.StatusBadRequest }

// When is the time of a step as the page tells it.
func (s demoStep) When() string { return milliseconds(s.At) }

// Lasted is how long the answer took.
func (s demoStep) Lasted() string { return milliseconds(s.Took) }

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

// Scopes are the scopes of the token that a step was answered with.
func (s demoStep) Scopes() []string {
	for _, line := range s.Details {
		if _, list, ok := strings.Cut(line, "granted: scope = "); ok {
			return slices.Sorted(strings.FieldsSeq(strings.Trim(list, `"`)))
		}
	}
	return nil
}

var (
	//go:embed demopage.html
	demoPageText string
	//go:embed demopage.css
	demoStyle []byte

	demoPage = template.Must(template.New("demo").Parse(demoPageText))
)

// page draws what happened.
func (s *story) page() *[]byte {
	var b bytes.Buffer
	var tokens [][]string
	for _, chapter := range s.chapters {
		for _, step := range chapter.Steps {
			if scopes := step.Scopes(); scopes != nil {
				tokens = append(tokens, scopes)
			}
		}
	}
	err := demoPage.Execute(&b, map[string]any{"Chapters": s.chapters, "Tokens": tokens, "URL": s.demo.url, "Style": pageDemoStyle})
	if err != nil {
		panic("the page of the demo: " + err.Error()) // its template and its values are ours
	}
	page := b.Bytes()
	return &page
}

// showPage shows what happened, once it has.
func (d *demo) showPage(w http.ResponseWriter, r *http.Request) {
	page := d.page.Load()
	if page == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(*page) // the reader may be gone
}

func showDemoStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(demoStyle)
}
