package authserver

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/authserver/internal/protocol"
)

// metadata is the document of RFC 8414 §2, and of OpenID Connect Discovery §3 for
// clients that look for that one only; ID tokens are not issued.
type metadata struct {
	Issuer                   string   `json:"issuer"`
	AuthorizationEndpoint    string   `json:"authorization_endpoint"`
	TokenEndpoint            string   `json:"token_endpoint"`
	RegistrationEndpoint     string   `json:"registration_endpoint,omitempty"`
	RevocationEndpoint       string   `json:"revocation_endpoint"`
	IntrospectionEndpoint    string   `json:"introspection_endpoint"`
	JWKSURI                  string   `json:"jwks_uri"`
	ScopesSupported          []string `json:"scopes_supported,omitempty"`
	ResponseTypes            []string `json:"response_types_supported"`
	ResponseModes            []string `json:"response_modes_supported"`
	GrantTypes               []string `json:"grant_types_supported"`
	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	CodeChallengeMethods     []string `json:"code_challenge_methods_supported"`
	Iss                      bool     `json:"authorization_response_iss_parameter_supported"`
	CIMD                     bool     `json:"client_id_metadata_document_supported"`
	ProtectedResources       []string `json:"protected_resources"` // RFC 9728 §4
	SubjectTypes             []string `json:"subject_types_supported"`
	IDTokenAlgorithms        []string `json:"id_token_signing_alg_values_supported"`
}

func (s *Server) metadata() metadata {
	at := func(path string) string { return s.config.Issuer + path }
	methods := []string{"none", "client_secret_basic", "client_secret_post"}
	m := metadata{Issuer: s.config.Issuer, AuthorizationEndpoint: at(protocol.PathAuthorize), TokenEndpoint: at(protocol.PathToken),
		RevocationEndpoint: at(protocol.PathRevoke), IntrospectionEndpoint: at(protocol.PathIntrospect), JWKSURI: at(pathKeys),
		ScopesSupported: s.config.Scopes, ResponseTypes: []string{"code"}, ResponseModes: []string{"query"},
		GrantTypes:       []string{"authorization_code", "refresh_token", "client_credentials"},
		TokenAuthMethods: methods, RevocationAuthMethods: methods, IntrospectionAuthMethods: methods[1:],
		CodeChallengeMethods: []string{"S256"}, Iss: true, CIMD: true,
		SubjectTypes: []string{"public"}, IDTokenAlgorithms: []string{"ES256"}}
	if !s.config.NoRegistration {
		m.RegistrationEndpoint = at(pathRegister)
	}
	for _, r := range s.config.Resources {
		m.ProtectedResources = append(m.ProtectedResources, r.URL)
	}
	return m
}

// metadataPaths are all places where clients look (REQ-70): the issuer has no path,
// but some put that of the endpoint behind the well-known one.
func (s *Server) metadataPaths() []string {
	const oauth, oidc = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	paths := []string{oauth, oidc}
	for _, r := range s.config.Resources {
		if u, err := url.Parse(r.URL); err == nil && len(u.Path) > 1 {
			paths = append(paths, oauth+u.Path, oidc+u.Path)
		}
	}
	return paths
}

func (s *Server) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, s.metadata())
}

// serveKeys answers with the public keys.
func (s *Server) serveKeys(w http.ResponseWriter, r *http.Request) {
	keys, err := s.keys.private(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	set := jose.JSONWebKeySet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.Public())
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, set)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		panic("authserver: an answer of ours cannot be written: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// oauthError is an answer of RFC 6749 §5.2.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func refuse(w http.ResponseWriter, status int, code, description string) {
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, status, oauthError{code, description})
}

// broken answers when something failed that is nobody's mistake out there.
func (s *Server) broken(w http.ResponseWriter, r *http.Request, err error) {
	s.config.Log.ErrorContext(r.Context(), "authorization server", "path", r.URL.Path, "error", err)
	refuse(w, http.StatusInternalServerError, "server_error", "something went wrong here: try again later")
}
