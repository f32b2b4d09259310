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

// readMetadata reads the document in every place clients look for it.
func (v *visit) readMetadata() {
	inserted, root := fetch.ResourceMetadata(v.endpoint)
	told := v.wall.get("resource_metadata")
	if told != "" {
		m, why := v.getMetadata(told)
		if m == nil {
			v.find("metadata-told-missing", told+": "+why)
		}
		v.metadata = m
	}
	if told != inserted {
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
	if v.metadata == nil && root != inserted {
		v.metadata, _ = v.getMetadata(root)
	}
	if v.metadata == nil {
		v.find("metadata-missing", inserted)
		return
	}
	v.judgeMetadata()
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
	a, err := v.askAt(m.at, http.MethodGet, http.Header{"Origin": {pageOrigin}}, nil)
	if err == nil && !allowsOrigin(a.header) {
		v.find("metadata-no-cors", m.at)
	}
}
