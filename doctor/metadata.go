package doctor

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/internal/fetch"
)

// resourceMetadata is the protected-resource document (RFC 9728 §2), as far as
// clients read it.
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported"`

	at string // where it was found
}

const wellKnownResource = "/.well-known/oauth-protected-resource"

// readMetadata reads the document in every place clients look for it: where the
// challenge says, at the well-known place of the endpoint, and at the root (REQ-50).
func (v *visit) readMetadata() {
	inserted, root := fetch.ResourceMetadata(v.endpoint)
	told := v.told()
	v.metadata = v.getTold(told)
	if told != inserted {
		v.readInserted(inserted)
	}
	if root != inserted {
		v.readRoot(root)
	}
	if v.metadata == nil {
		v.find("metadata-missing", inserted)
		return
	}
	v.judgeMetadata()
}

// told is where the challenge says that the document is. One that is not absolute is
// taken from the endpoint on, as lenient clients do.
func (v *visit) told() string {
	told := v.wall.get("resource_metadata")
	if told == "" {
		return ""
	}
	u, err := v.endpoint.Parse(told)
	if err != nil {
		return told
	}
	return u.String()
}

func (v *visit) getTold(told string) *resourceMetadata {
	if told == "" {
		return nil
	}
	m, why := v.getMetadata(told)
	if m == nil {
		v.find("metadata-told-missing", told+": "+why)
	}
	u, err := url.Parse(told)
	if path := strings.TrimSuffix(v.endpoint.Path, "/"); err == nil && path != "" && strings.HasSuffix(u.Path, wellKnownResource) && strings.HasPrefix(u.Path, path) {
		v.find("metadata-appended", told)
	}
	return m
}

func (v *visit) readInserted(inserted string) {
	m, why := v.getMetadata(inserted)
	switch {
	case m == nil:
		v.find("metadata-inserted-missing", inserted+": "+why)
	case v.metadata == nil:
		v.metadata = m
	case m.Resource != v.metadata.Resource || !slices.Equal(m.AuthorizationServers, v.metadata.AuthorizationServers):
		v.find("metadata-disagrees", v.metadata.at+" and "+m.at)
	}
}

// readRoot looks at the document that clients take when they find no other. It may be
// that of another resource of the same host, but then it sends them elsewhere.
func (v *visit) readRoot(root string) {
	m, _ := v.getMetadata(root)
	switch {
	case m == nil:
	case v.metadata == nil:
		v.metadata = m
	case !slices.Equal(m.AuthorizationServers, v.metadata.AuthorizationServers):
		v.find("metadata-root", m.at+": authorization_servers "+list(m.AuthorizationServers)+"; "+v.metadata.at+": "+list(v.metadata.AuthorizationServers))
	}
}

// getMetadata fetches the document, and says why it could not be had.
func (v *visit) getMetadata(at string) (m *resourceMetadata, why string) {
	got, err := v.fetch.GetJSON(v.ctx, at)
	if err != nil {
		return nil, err.Error()
	}
	m = &resourceMetadata{at: at}
	if err := json.Unmarshal(got.Body, m); err != nil {
		return nil, "no JSON object as RFC 9728 has it: " + err.Error()
	}
	return m, ""
}

// judgeMetadata looks at what the document says, and to whom it is told.
func (v *visit) judgeMetadata() {
	m := v.metadata
	v.report.Resource = clean(m.Resource, 300)
	if m.Resource != v.endpoint.String() {
		v.find("metadata-resource", `"resource": "`+m.Resource+`" at `+m.at)
	}
	if len(m.AuthorizationServers) == 0 {
		v.find("metadata-no-issuer", m.at)
	}
	if len(m.ScopesSupported) == 0 {
		v.find("metadata-no-scopes", m.at)
	}
	if slices.Contains(m.ScopesSupported, "offline_access") {
		v.find("challenge-offline", "scopes_supported at "+m.at)
	}
	if w := v.wall.scopes(); len(w) > 0 && len(m.ScopesSupported) > 0 && !slices.Equal(w, m.ScopesSupported) {
		v.find("metadata-scopes-differ", `scope="`+v.wall.get("scope")+`" and scopes_supported `+strings.Join(m.ScopesSupported, " "))
	}
	u, err := url.Parse(m.at)
	if err != nil || !sameOrigin(u, v.endpoint) {
		return // asked under the rules for strangers; not again
	}
	v.judgeMetadataForPages(m)
}

// asPage are the headers of a page that asks for something of a media type.
func asPage(accept string) http.Header {
	return http.Header{"Origin": {pageOrigin}, "Accept": {accept}}
}

func (v *visit) judgeMetadataForPages(m *resourceMetadata) {
	a, err := v.askAt(m.at, http.MethodGet, asPage("application/json"), nil)
	if err == nil && !allowsOrigin(a.header) {
		v.find("metadata-no-cors", m.at)
		return
	}
	// Clients ask with their revision in a header, which makes browsers ask before.
	a, err = v.askAt(m.at, http.MethodOptions, http.Header{"Origin": {pageOrigin}, "Access-Control-Request-Method": {http.MethodGet},
		"Access-Control-Request-Headers": {"mcp-protocol-version"}}, nil)
	if err == nil && (a.status/100 != 2 || !allowsOrigin(a.header) || !allowsHeader(a.header, "mcp-protocol-version")) {
		v.find("metadata-preflight", a.line()+" at "+m.at)
	}
}
