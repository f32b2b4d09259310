package authserver

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/stile-mcp/stile/authserver/internal/protocol"
)

// post takes a form of the token, revocation or introspection endpoint, and looks at
// what the protocol does not: no parameter twice (RFC 6749 §3.2), none in the query,
// and a resource in the form that its metadata has.
func (s *Server) post(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	if media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded") {
		refuse(w, http.StatusBadRequest, "invalid_request", "expected application/x-www-form-urlencoded")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "invalid_request", "the form is too long")
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid_request", "the form cannot be read")
		return
	}
	if code, description := s.checkForm(r, form); code != "" {
		refuse(w, http.StatusBadRequest, code, description)
		return
	}
	data := form.Encode()
	r = r.Clone(r.Context())
	if !form.Has("redirect_uri") {
		r = r.WithContext(protocol.WithoutRedirect(r.Context()))
	}
	r.Form, r.PostForm, r.URL.RawQuery = nil, nil, ""
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(data)), int64(len(data))
	s.protocol.ServeHTTP(w, r)
}

// checkForm says what is wrong with a form, and puts it in order.
func (s *Server) checkForm(r *http.Request, form url.Values) (code, description string) {
	for name, values := range form {
		if len(values) > 1 {
			return "invalid_request", plain(name) + " stands more than once"
		}
	}
	if r.URL.RawQuery != "" {
		return "invalid_request", "parameters belong into the form"
	}
	if r.URL.Path != protocol.PathToken {
		return "", ""
	}
	if form.Has("resource") || form.Get("grant_type") == "client_credentials" {
		resource, ok := s.resource(form["resource"])
		if !ok {
			return "invalid_target", "the resource is not one of this server"
		}
		form.Set("resource", resource.URL)
	}
	// RFC 6749 §4.1.3 has no scope for a code: the person has decided. Elsewhere each
	// stands once, with one space between them, since it goes into the token like that.
	scopes := unique(strings.Fields(form.Get("scope")))
	if form.Set("scope", strings.Join(scopes, " ")); len(scopes) == 0 || form.Get("grant_type") == "authorization_code" {
		form.Del("scope")
	}
	return "", ""
}

// refreshing decides about a refresh: the person must still be one, and a challenge
// that waits sends the client to ask instead (DES-34 ii).
func (s *Server) refreshing(ctx context.Context, g protocol.Grant) error {
	if !s.config.NoRefusedRefresh {
		if code := s.pending.refuseRefresh(g.Subject, g.ClientID, g.Scopes); code != "" {
			return &protocol.Refusal{Code: code, Description: "more is needed than this grant has: authorize again"}
		}
	}
	return s.used(ctx, g)
}
