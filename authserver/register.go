package authserver

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// registration is a request of RFC 7591 §2, and with what is added its answer. What
// else a client says is not kept.
type registration struct {
	RedirectURIs    []string `json:"redirect_uris"`
	Method          string   `json:"token_endpoint_auth_method,omitempty"`
	GrantTypes      []string `json:"grant_types,omitempty"`
	ResponseTypes   []string `json:"response_types,omitempty"`
	ClientName      string   `json:"client_name,omitempty"`
	ApplicationType string   `json:"application_type,omitempty"`
	// Scope is told back and means nothing: TypeScript clients register with that of
	// the first challenge, and it must not keep them from the second.
	Scope string `json:"scope,omitempty"`

	ClientID      string `json:"client_id,omitempty"`
	IssuedAt      int64  `json:"client_id_issued_at,omitempty"`
	Secret        string `json:"client_secret,omitempty"`
	SecretExpires *int64 `json:"client_secret_expires_at,omitempty"` // 0: never
}

// maxDocument bounds what a client says of itself, in bytes.
const maxDocument = 64 << 10

// registerClient registers a client (RFC 7591 §3). REQ-59 calls it deprecated; most
// clients of today need it.
func (s *Server) registerClient(w http.ResponseWriter, r *http.Request) {
	if !s.register.take(r.RemoteAddr) {
		w.Header().Set("Retry-After", "60")
		refuse(w, http.StatusTooManyRequests, "temporarily_unavailable", "too many registrations: try again later")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDocument))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "invalid_client_metadata", "the registration is too long")
		return
	}
	var asked registration
	if err := json.Unmarshal(body, &asked); err != nil {
		refuse(w, http.StatusBadRequest, "invalid_client_metadata", "the registration is no JSON object as RFC 7591 has it")
		return
	}
	if code, err := s.checkRegistration(&asked); err != nil {
		refuse(w, http.StatusBadRequest, code, err.Error())
		return
	}
	answer, client := newClient(asked)
	data, err := json.Marshal(client)
	if err == nil {
		_, err = s.config.Store.Swap(r.Context(), clientKey(client.ID), "", data, time.Now().Add(unusedLife))
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.config.Log.InfoContext(r.Context(), "client registered", "client", client.ID, "name", plain(client.Name), "redirects", len(client.RedirectURIs))
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusCreated, answer)
}

// checkRegistration refuses what cannot be, and fills in what RFC 7591 §2 has an
// absent member mean.
func (s *Server) checkRegistration(r *registration) (code string, err error) {
	if len(r.RedirectURIs) == 0 || len(r.RedirectURIs) > maxRedirects {
		return "invalid_redirect_uri", errors.New("expected 1 to 20 redirect URIs")
	}
	all := 0
	for _, uri := range r.RedirectURIs {
		if err := s.checkRedirectURI(uri); err != nil {
			return "invalid_redirect_uri", err
		}
		all += len(uri)
	}
	if all > maxRedirectURIs {
		return "invalid_redirect_uri", errors.New("the redirect URIs are too long together")
	}
	switch r.Method {
	case "":
		r.Method = "client_secret_basic"
	case "none", "client_secret_basic", "client_secret_post":
	default:
		return "invalid_client_metadata", errors.New("token_endpoint_auth_method: expected none, client_secret_basic or client_secret_post")
	}
	if len(r.ClientName) > maxName || len(r.Scope) > maxDocument/8 {
		return "invalid_client_metadata", errors.New("client_name or scope is too long")
	}
	if len(r.GrantTypes) > 0 && !slices.Contains(r.GrantTypes, "authorization_code") {
		return "invalid_client_metadata", errors.New("grant_types: expected authorization_code, which is what a person consents to")
	}
	if len(r.ResponseTypes) > 0 && !slices.Contains(r.ResponseTypes, "code") {
		return "invalid_client_metadata", errors.New("response_types: expected code")
	}
	r.GrantTypes, r.ResponseTypes = []string{"authorization_code", "refresh_token"}, []string{"code"}
	switch r.ApplicationType {
	case "", "native", "web":
	default:
		return "invalid_client_metadata", errors.New("application_type: expected native or web")
	}
	return "", nil
}

// newClient makes the client, and what it is told.
func newClient(asked registration) (registration, Client) {
	answer := asked
	answer.ClientID, answer.IssuedAt, answer.Secret, answer.SecretExpires = rand.Text(), time.Now().Unix(), "", nil
	client := Client{ID: answer.ClientID, Name: strings.ToValidUTF8(asked.ClientName, ""), Method: asked.Method, RedirectURIs: asked.RedirectURIs}
	if asked.Method != "none" {
		answer.Secret = rand.Text() + rand.Text()
		answer.SecretExpires = new(int64)
		client.SecretHash = HashSecret(answer.Secret)
	}
	return answer, client
}
