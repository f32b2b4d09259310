package stile

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/rs/cors"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/scope"
)

// wellKnown is where the protected-resource document stands: between host and
// path of the resource (RFC 9728 §3.1).
const wellKnown = "/.well-known/oauth-protected-resource"

// metadataMaxAge is how long a client may keep the document, in seconds.
const metadataMaxAge = 300

// document is one that clients read to find their way.
type document struct {
	content func() []byte // nil: not to be had now
	cors    *cors.Cors
}

func publicDocument(content func() []byte) *document {
	return &document{content: content, cors: cors.New(cors.Options{
		AllowedOrigins: []string{"*"},
		AllowedMethods: []string{http.MethodGet, http.MethodHead},
		AllowedHeaders: []string{"*"},
		MaxAge:         preflightSeconds,
	})}
}

// resourceMetadata is the document of RFC 9728 §2 that clients of MCP read.
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	ResourceName         string   `json:"resource_name,omitempty"`
}

// newDocument describes one endpoint. The scopes are the same list that the 401
// names (DES-08): the baseline, never what a step-up would ask for.
func newDocument(resource, name string, issuers []*authenticate.Profile, scopes scope.Set) (*document, error) {
	m := resourceMetadata{
		Resource:             resource,
		AuthorizationServers: []string{},
		ScopesSupported:      scopes,
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
	return publicDocument(func() []byte { return body }), nil
}

// issuerMetadata is where an authorization server's metadata stands (RFC 8414 §3).
const issuerMetadata = "/.well-known/oauth-authorization-server"

// relayIssuer adds the document of Config.RelayIssuerMetadata.
func (g *Gateway) relayIssuer(mistakes *problem.List) {
	if !g.config.RelayIssuerMetadata {
		return
	}
	var keys *authenticate.KeySet
	for _, s := range g.endpoints {
		for _, v := range s.verifiers {
			of, ok := v.(interface{ Keys() *authenticate.KeySet })
			if !ok {
				continue
			}
			if keys != nil && keys.Issuer() != of.Keys().Issuer() {
				mistakes.Add("relay_issuer_metadata", "true", "false with more than one issuer: one document can describe only one")
				return
			}
			keys = of.Keys()
		}
	}
	if keys == nil {
		mistakes.Add("relay_issuer_metadata", "true", "false without an issuer whose metadata is discovered")
		return
	}
	g.documents[issuerMetadata] = publicDocument(keys.Metadata)
}

// serveMetadata answers for the documents that clients find their way by and
// reports whether the path is one of theirs. Any origin may read them.
func (g *Gateway) serveMetadata(w http.ResponseWriter, r *http.Request) bool {
	doc, ok := g.documents[r.URL.Path]
	if !ok {
		return false
	}
	body := doc.content()
	g.ids.mark(w.Header())
	doc.cors.HandlerFunc(w, asSimple(r))
	if r.Method == http.MethodOptions {
		if r.Header.Get("Access-Control-Request-Method") == "" {
			w.WriteHeader(http.StatusNoContent)
		}
		return true
	}
	h := w.Header()
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD, OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return true
	case body == nil:
		h.Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(metadataMaxAge))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
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
