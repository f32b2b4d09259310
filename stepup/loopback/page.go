package loopback

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/url"
	"strings"

	"github.com/stile-mcp/stile/stepup"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	pageStyle string

	pageTemplate = template.Must(template.New("page").Parse(pageText))
)

// page is what is shown in the browser at the end.
type page struct {
	Kind    string // good, refused or bad: which sign it bears
	Title   string
	Text    string
	Server  string
	Details string // what an issuer or an error says; a stranger's text
	Scopes  []string
	Style   template.CSS
}

// outcomePage tells how a login ended.
func outcomePage(r stepup.Request, err error) page {
	p := page{Server: serverName(r.Resource)}
	var denied *stepup.DeniedError
	switch {
	case err == nil && r.Operation == "":
		p.Kind, p.Title, p.Text = "good", "You are logged in", "You can close this window and go back to your program."
	case err == nil:
		p.Kind, p.Title, p.Text = "good", "Your program tries again", "It asked for more, to do "+operation(r)+". You can close this window and go back to it."
	case errors.As(err, &denied):
		p.Kind, p.Title, p.Text = "refused", "Nothing was allowed", "Your program goes on without. You can close this window."
		p.Details = plain(denied.Code + " " + denied.Description)
	default:
		p.Kind, p.Title, p.Text = "bad", "The login did not work", "Your program tells more. You can close this window, and try again there."
		p.Details = plain(err.Error())
	}
	if err == nil {
		for _, s := range r.New {
			p.Scopes = append(p.Scopes, plain(s))
		}
	}
	return p
}

// waitingPage is for an issuer that takes its time.
func waitingPage(r stepup.Request) page {
	return page{Kind: "good", Title: "Your answer has arrived", Server: serverName(r.Resource),
		Text: "Your program tells how it goes on. You can close this window."}
}

// operation is what a login is for, as people know it; empty at a first login.
func operation(r stepup.Request) string { return plain(strings.TrimPrefix(r.Operation, "tools/call ")) }

func serverName(resource string) string {
	if u, err := url.Parse(resource); err == nil && u.Host != "" {
		return u.Host
	}
	return resource
}

// render returns the page and the content policy that lets it have its style and
// nothing else.
func (p page) render() (body []byte, policy string, err error) {
	p.Style = template.CSS(pageStyle) // ours, not a stranger's
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256([]byte(pageStyle))
	return b.Bytes(), "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", nil
}

// plain makes a stranger's text safe to print: printable ASCII on one line, at most
// 300 characters.
func plain(s string) string {
	out := make([]byte, 0, min(len(s), 300))
	for _, r := range s {
		if len(out) == 300 {
			break
		}
		switch {
		case r >= ' ' && r <= '~':
			out = append(out, byte(r))
		case r == '\n' || r == '\t':
			out = append(out, ' ')
		default:
			out = append(out, '?')
		}
	}
	return string(out)
}
