package stile

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/rs/cors"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/scope"
)

// wellKnown is where the protected-resource document stands: between host and
// path of the resource (RFC 9728 §3.1).
const wellKnown = "/.well-known/oauth-protected-resource"

// metadataMaxAge is how long a client may keep the document, in seconds.
const metadataMaxAge = 300

// document is a protected-resource document, encoded once.
type document struct {
	body []byte
	cors *cors.Cors
}

// resourceMetadata is the document of RFC 9728 §2 that clients of MCP read.
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	ResourceName         string   `json:"resource_name,omitempty"`
}

// newDocument describes one endpoint. The scopes are the baseline, the same list
// that the 401 names (DES-08), never what a step-up would ask for.
func newDocument(resource, name string, issuers []*authenticate.Profile, baseline scope.Set) (*document, error) {
	m := resourceMetadata{
		Resource:             resource,
		AuthorizationServers: []string{},
		ScopesSupported:      baseline,
		BearerMethods:        []string{"header"},
		ResourceName:         name,
	}
	for _, p := range issuers {
		m.AuthorizationServers = append(m.AuthorizationServers, p.Issuer)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	anyone := cors.New(cors.Options{
		AllowedOrigins: []string{"*"},
		AllowedMethods: []string{http.MethodGet, http.MethodHead},
		AllowedHeaders: []string{"*"},
		MaxAge:         preflightSeconds,
	})
	return &document{body: body, cors: anyone}, nil
}

// serveMetadata answers for the protected-resource documents and reports whether
// the path is one of theirs. They are public: any origin may read them.
func (g *Gateway) serveMetadata(w http.ResponseWriter, r *http.Request) bool {
	doc, ok := g.documents[r.URL.Path]
	if !ok {
		return false
	}
	doc.cors.HandlerFunc(w, r)
	if r.Method == http.MethodOptions {
		if r.Header.Get("Access-Control-Request-Method") == "" {
			w.WriteHeader(http.StatusNoContent)
		}
		return true
	}
	h := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD, OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return true
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(metadataMaxAge))
	h.Set("Content-Length", strconv.Itoa(len(doc.body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(doc.body)
	}
	return true
}

// prefixed is a set in the vocabulary of an issuer (DES-07).
func prefixed(s scope.Set, prefix string) scope.Set {
	if prefix == "" {
		return s
	}
	out := make(scope.Set, len(s))
	for i, token := range s {
		out[i] = prefix + token
	}
	return out
}
