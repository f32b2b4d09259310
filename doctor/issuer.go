package doctor

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/internal/fetch"
)

// issuerMetadata is an authorization server's document (RFC 8414 §2, OpenID
// Connect Discovery §3), as far as clients read it.
type issuerMetadata struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Registration  string   `json:"registration_endpoint"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	Grants        []string `json:"grant_types_supported"`
	Scopes        []string `json:"scopes_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	Iss           bool     `json:"authorization_response_iss_parameter_supported"`
	CIMD          bool     `json:"client_id_metadata_document_supported"`

	at    string
	asked string // the identifier that was followed
}

// readIssuers reads the documents of the authorization servers.
func (v *visit) readIssuers() {
	if v.metadata == nil {
		return
	}
	for i, issuer := range v.metadata.AuthorizationServers {
		if i == 5 {
			return // clients take the first; more is somebody's mistake
		}
		v.report.Issuers = append(v.report.Issuers, clean(issuer, 300))
		u, err := url.Parse(issuer)
		if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			v.find("issuer-no-url", issuer)
			continue
		}
		if m := v.getIssuer(issuer); m != nil {
			v.servers = append(v.servers, *m)
			v.judgeIssuer(m)
			v.judgeProvider(m)
		}
	}
}

// getIssuer fetches the document from the first place that has it.
func (v *visit) getIssuer(issuer string) *issuerMetadata {
	var whys []string
	for i, at := range fetch.IssuerMetadata(issuer) {
		got, err := v.fetch.GetJSON(v.ctx, at)
		if err != nil {
			whys = append(whys, at+": "+err.Error())
			continue
		}
		m := &issuerMetadata{at: at, asked: issuer}
		if err := json.Unmarshal(got.Body, m); err != nil {
			whys = append(whys, at+": "+err.Error())
			continue
		}
		if i == 3 {
			v.find("issuer-appended", at)
		}
		return m
	}
	v.find("issuer-unreachable", strings.Join(whys, "; "))
	return nil
}

// judgeIssuer holds the document against what clients insist on.
func (v *visit) judgeIssuer(m *issuerMetadata) {
	if m.Issuer != m.asked {
		v.find("issuer-differs", `authorization_servers has "`+m.asked+`", the document at `+m.at+` has "`+m.Issuer+`"`)
	}
	if !slices.Contains(m.Challenges, "S256") {
		v.find("issuer-no-s256", m.at+": code_challenge_methods_supported "+list(m.Challenges))
	}
	if !m.Iss {
		v.find("issuer-no-iss", m.at)
	}
	switch {
	case !m.CIMD && m.Registration == "":
		v.find("issuer-no-registration", m.at)
	case !m.CIMD:
		v.find("issuer-no-cimd", m.at)
	}
	if len(m.AuthMethods) > 0 && !slices.Contains(m.AuthMethods, "none") {
		v.find("issuer-no-public-clients", m.at+": token_endpoint_auth_methods_supported "+list(m.AuthMethods))
	}
	for name, endpoint := range map[string]string{"authorization_endpoint": m.Authorization, "token_endpoint": m.Token} {
		u, err := url.Parse(endpoint)
		if endpoint == "" || err != nil || u.Scheme != "https" && !(u.Scheme == "http" && fetch.IsLoopback(u.Hostname())) {
			v.find("issuer-endpoint", name+` "`+endpoint+`" at `+m.at)
		}
	}
	if len(m.Scopes) > 0 && v.metadata != nil {
		for _, s := range v.metadata.ScopesSupported {
			if !slices.Contains(m.Scopes, s) {
				v.find("issuer-lacks-scope", s+" is not in scopes_supported at "+m.at)
			}
		}
	}
}

func list(s []string) string {
	if len(s) == 0 {
		return "absent"
	}
	return strings.Join(s, " ")
}
