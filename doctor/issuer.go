package doctor

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/doctor/provider"
	"github.com/stile-mcp/stile/internal/fetch"
)

// issuerMetadata is a document of an authorization server and where it was.
type issuerMetadata struct {
	provider.Metadata

	at    string
	asked string // the identifier that was followed
	oauth bool   // it stood where RFC 8414 §3.1 puts it
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
			v.judgeIssuerForPages(m)
			v.judgeProvider(m)
		}
	}
}

// getIssuer fetches the document from every place that clients look in, and answers
// the one that they find first (REQ-70).
func (v *visit) getIssuer(issuer string) *issuerMetadata {
	var (
		found []*issuerMetadata
		whys  []string
	)
	for i, at := range fetch.IssuerMetadata(issuer) {
		got, err := v.fetch.GetJSON(v.ctx, at)
		m := &issuerMetadata{at: at, asked: issuer, oauth: i == 0}
		if err == nil {
			err = json.Unmarshal(got.Body, m)
		}
		if err != nil {
			whys = append(whys, at+": "+err.Error())
			continue
		}
		if i == 3 && len(found) == 0 {
			v.find("issuer-appended", at)
		}
		found = append(found, m)
	}
	if len(found) == 0 {
		v.find("issuer-unreachable", strings.Join(whys, "; "))
		return nil
	}
	first := found[0]
	if !first.oauth && strings.Contains(first.at, "openid-configuration") {
		v.find("issuer-only-openid", first.at)
	}
	for _, other := range found[1:] {
		if what := first.differsFrom(other); what != "" {
			v.find("issuer-documents-differ", what+": "+first.at+" and "+other.at)
			break
		}
	}
	return first
}

// differsFrom names what two documents of one issuer do not agree on.
func (m *issuerMetadata) differsFrom(o *issuerMetadata) string {
	switch {
	case m.Issuer != o.Issuer:
		return "issuer"
	case m.Authorization != o.Authorization:
		return "authorization_endpoint"
	case m.Token != o.Token:
		return "token_endpoint"
	case m.Registration != o.Registration:
		return "registration_endpoint"
	case slices.Contains(m.Challenges, "S256") != slices.Contains(o.Challenges, "S256"):
		return "code_challenge_methods_supported"
	case m.Iss != o.Iss:
		return "authorization_response_iss_parameter_supported"
	case m.CIMD != o.CIMD:
		return "client_id_metadata_document_supported"
	}
	return ""
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
	if len(m.Grants) > 0 && !slices.Contains(m.Grants, "authorization_code") || len(m.ResponseTypes) > 0 && !slices.Contains(m.ResponseTypes, "code") {
		v.find("issuer-no-code", m.at+": grant_types_supported "+list(m.Grants)+", response_types_supported "+list(m.ResponseTypes))
	}
	if len(m.Resources) > 0 && !slices.Contains(m.Resources, v.metadata.Resource) {
		v.find("issuer-resource-unlisted", m.at+": protected_resources "+list(m.Resources))
	}
	v.judgeEndpoints(m)
	if len(m.Scopes) > 0 {
		for _, s := range v.metadata.ScopesSupported {
			if !slices.Contains(m.Scopes, s) {
				v.find("issuer-lacks-scope", s+" is not in scopes_supported at "+m.at)
			}
		}
	}
}

func (v *visit) judgeEndpoints(m *issuerMetadata) {
	for _, one := range []struct{ name, endpoint string }{{"authorization_endpoint", m.Authorization}, {"token_endpoint", m.Token}, {"registration_endpoint", m.Registration}} {
		if one.name == "registration_endpoint" && one.endpoint == "" {
			continue
		}
		u, err := url.Parse(one.endpoint)
		if one.endpoint == "" || err != nil || u.Scheme != "https" && !(u.Scheme == "http" && fetch.IsLoopback(u.Hostname())) {
			v.find("issuer-endpoint", one.name+` "`+one.endpoint+`" at `+m.at)
		}
	}
}

// judgeIssuerForPages asks for the document as a page would.
func (v *visit) judgeIssuerForPages(m *issuerMetadata) {
	got, err := v.fetch.GetWith(v.ctx, m.at, asPage("application/json"))
	if err == nil && got.Status == http.StatusOK && !allowsOrigin(got.Header) {
		v.find("issuer-no-cors", m.at)
	}
}

// judgeProvider says what a known provider lacks, and what makes up for it.
func (v *visit) judgeProvider(m *issuerMetadata) {
	p := provider.Recognise(m.asked, m.Metadata)
	if p == nil || v.report.Provider != nil {
		return
	}
	issuer := clean(m.asked, 300)
	v.report.Provider = &Provider{Name: p.Name, Lacks: append(provider.Lacks(m.Metadata, m.oauth), p.Beyond...),
		Setup: p.Setup, Config: p.Config(issuer), Direct: p.Direct(issuer)}
}

func list(s []string) string {
	if len(s) == 0 {
		return "absent"
	}
	return strings.Join(s, " ")
}
