package authserver

import (
	"context"
	"errors"
	"github.com/stile-mcp/stile/internal/fetch"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/authserver/internal/protocol"
	"github.com/stile-mcp/stile/authserver/pages"
	"github.com/stile-mcp/stile/authserver/portal"
)

// maxForm bounds a form of the protocol, in bytes.
const maxForm = 64 << 10

// taken are the parameters of an authorization request that mean something here
// (RFC 6749 §4.1.1, RFC 7636, RFC 8707). Others are ignored, but for those in
// refused.
var taken = []string{"response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method", "resource"}

// refusedParameters would change what the request means.
var refusedParameters = map[string]string{"request": "request_not_supported", "request_uri": "request_uri_not_supported"}

// authorize takes an authorization request. Until the client and its redirect URI
// are known good, mistakes are shown to the person; afterwards they are told to the
// client, with iss (RFC 9207).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	if !s.asking.take(r.RemoteAddr) {
		w.Header().Set("Retry-After", "60")
		s.show(w, r, http.StatusTooManyRequests, "There are too many logins at once. Try again in a minute.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.show(w, r, http.StatusBadRequest, "The request cannot be read.")
		return
	}
	q := r.Form
	if len(q["client_id"]) > 1 || len(q["redirect_uri"]) > 1 {
		s.show(w, r, http.StatusBadRequest, "The request names two clients, or two places for the answer.")
		return
	}
	client, err := s.client(r.Context(), q.Get("client_id"))
	var document *documentError
	switch {
	case errors.As(err, &document):
		s.show(w, r, http.StatusBadRequest, "The program that sent you here could not be identified: "+plain(document.text)+".")
		return
	case errors.Is(err, protocol.ErrUnknown):
		s.show(w, r, http.StatusBadRequest, "The program that sent you here is not registered, or is no longer.")
		return
	case err != nil:
		s.config.Log.ErrorContext(r.Context(), "authorization request", "error", err)
		s.show(w, r, http.StatusInternalServerError, "Something went wrong here. Try again later.")
		return
	}
	redirect := q.Get("redirect_uri")
	if !matchRedirectURI(client.RedirectURIs, redirect) {
		s.show(w, r, http.StatusBadRequest, "The program that sent you here named a place for the answer that it has not registered.")
		return
	}
	good, code, description := s.checkRequest(q)
	if code != "" {
		s.sendBack(w, r, client, q, code, description)
		return
	}
	r = r.Clone(protocol.WithRedirect(r.Context(), redirect))
	r.Method, r.Body, r.Form, r.PostForm = http.MethodGet, http.NoBody, nil, nil
	r.URL = &url.URL{Path: protocol.PathAuthorize, RawQuery: good.Encode()}
	w.Header().Set("Cache-Control", "no-store")
	s.protocol.ServeHTTP(w, r)
}

// maxParameter bounds each parameter of an authorization request, in bytes, since the
// request is kept while somebody decides.
const maxParameter = 4 << 10

// checkRequest looks at what the protocol does not, and returns the request as the
// protocol gets it, or what is wrong.
func (s *Server) checkRequest(q url.Values) (good url.Values, code, description string) {
	good = url.Values{}
	for _, name := range taken {
		if len(q[name]) > 1 && name != "resource" {
			return nil, "invalid_request", name + " stands more than once"
		}
		if len(q.Get(name)) > maxParameter {
			return nil, "invalid_request", name + " is too long"
		}
		if q.Has(name) {
			good.Set(name, q.Get(name))
		}
	}
	for name, code := range refusedParameters {
		if q.Has(name) {
			return nil, code, name + " is not supported"
		}
	}
	switch {
	case !q.Has("response_type"):
		return nil, "invalid_request", "response_type is missing"
	case q.Get("response_type") != "code":
		return nil, "unsupported_response_type", "response_type: only code is supported"
	case q.Has("response_mode") && q.Get("response_mode") != "query":
		return nil, "invalid_request", "response_mode: only query is supported"
	case slices.Contains(strings.Fields(q.Get("prompt")), "none"):
		return nil, "interaction_required", "a person has to consent"
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43:
		// RFC 7636 §4.2: 32 bytes in base64url. An absent method would mean plain.
		return nil, "invalid_request", "PKCE with S256 is required"
	}
	resource, ok := s.resource(q["resource"])
	if !ok {
		return nil, "invalid_target", "the resource is not one of this server"
	}
	good.Set("resource", resource.URL)
	scopes := s.known(strings.Fields(q.Get("scope")))
	if strings.TrimSpace(q.Get("scope")) == "" {
		scopes = resource.Baseline
	}
	if len(scopes) == 0 {
		return nil, "invalid_scope", "none of the scopes is known here"
	}
	good.Set("scope", strings.Join(scopes, " "))
	return good, "", ""
}

// known are the scopes of a list that may be asked for, each once.
func (s *Server) known(scopes []string) []string {
	return slices.DeleteFunc(unique(scopes), func(one string) bool { return !s.config.Known(one) })
}

// unique is a list without what stands there a second time.
func unique(list []string) []string {
	var once []string
	seen := map[string]bool{} // a stranger's list may be long
	for _, one := range list {
		if !seen[one] {
			seen[one], once = true, append(once, one)
		}
	}
	return once
}

// resource finds the endpoint that a request is for. A request that names none is
// for the only one there is (clients of 2025-03-26 cannot name any).
func (s *Server) resource(named []string) (Resource, bool) {
	if len(named) == 0 && len(s.config.Resources) == 1 {
		return s.config.Resources[0], true
	}
	if len(named) != 1 {
		return Resource{}, false
	}
	i := slices.IndexFunc(s.config.Resources, func(r Resource) bool { return r.URL == canonical(named[0]) })
	if i < 0 {
		return Resource{}, false
	}
	return s.config.Resources[i], true
}

// canonical is a resource as its metadata spells it: scheme and host in lower case,
// no slash at the end (REQ-13).
func canonical(resource string) string {
	u, err := url.Parse(resource)
	if err != nil || u.Fragment != "" || strings.Contains(resource, "#") {
		return ""
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	return strings.TrimSuffix(u.String(), "/")
}

// sendBack tells a client what is wrong with its request (RFC 6749 §4.1.2.1). Where
// anybody may have registered the place for the answer, the person is told, and may
// go there: a link to this server is no way to bring people elsewhere (RFC 9700
// §4.11.2).
func (s *Server) sendBack(w http.ResponseWriter, r *http.Request, client Client, q url.Values, code, description string) {
	u, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		s.show(w, r, http.StatusBadRequest, "The place for the answer cannot be read.")
		return
	}
	answer := u.Query()
	answer.Set("error", code)
	answer.Set("error_description", description)
	answer.Set("iss", s.config.Issuer)
	if len(q["state"]) == 1 && len(q.Get("state")) <= maxParameter {
		answer.Set("state", q.Get("state"))
	}
	u.RawQuery = answer.Encode()
	if !client.operators && (u.Scheme == "https" || u.Scheme == "http" && !fetch.IsLoopback(u.Hostname())) {
		s.write(w, r, http.StatusBadRequest, pages.Message{Title: stopped, Text: "The program that sent you here asked for what cannot be: " + description + ".",
			Next: "Close this page, or go back to the program if you trust the address.", Back: u.String(), BackTo: portal.Host(u)})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// stopped is the title of pages that say why a login cannot go on.
const stopped = "This login cannot go on"

// show tells a person why a login cannot go on.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, text string) {
	s.write(w, r, status, pages.Message{Title: stopped, Text: text, Next: "Close this page and start the login again in the program."})
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, page pages.Page) {
	if err := pages.Write(w, status, page); err != nil {
		s.config.Log.ErrorContext(r.Context(), "page", "error", err)
	}
}

// begin sends the browser of a request that was found good to the people's pages.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, id string) (string, error) {
	binding, err := s.portal.Binding(w, r)
	if err != nil {
		s.config.Log.ErrorContext(r.Context(), "authorization request", "error", err)
		return "", err
	}
	http.Redirect(w, r, portal.Entry(id), http.StatusSeeOther)
	return binding, nil
}

// granting decides whether a grant may be given tokens.
func (s *Server) granting(ctx context.Context, g protocol.Grant, refresh bool) error {
	if g.Subject == g.ClientID {
		return s.grantingAlone(ctx, g)
	}
	if refresh {
		return s.refreshing(ctx, g)
	}
	return s.consented(ctx, g)
}

// grantingAlone is for clients without a person: they have the scopes that the
// operator gave them, and name a resource.
func (s *Server) grantingAlone(ctx context.Context, g protocol.Grant) error {
	c, err := s.client(ctx, g.ClientID)
	if err != nil {
		return err
	}
	if len(g.Scopes) == 0 || !includes(c.Scopes, g.Scopes) {
		return &protocol.Refusal{Code: "invalid_scope", Description: "the client may ask for " + plain(strings.Join(c.Scopes, " "))}
	}
	if len(g.Resources) != 1 {
		return &protocol.Refusal{Code: "invalid_target", Description: "the request names no resource"}
	}
	return nil
}
