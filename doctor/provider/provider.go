// Package provider knows the identity providers that people put behind MCP servers:
// how to tell them by their metadata, what they lack for MCP clients, and which lines
// of stile.yaml make up for it.
//
// What a document can tell is read from the document. What it cannot, such as whom
// tokens are for, was read in the vendors' documentation and in public issue threads
// up to November 2026.
package provider

import (
	"net/url"
	"slices"
	"strings"
)

// Metadata is an authorization server's document (RFC 8414 §2, OpenID Connect
// Discovery §3), as far as MCP clients read it.
type Metadata struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Registration  string   `json:"registration_endpoint"`
	UserInfo      string   `json:"userinfo_endpoint"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	Grants        []string `json:"grant_types_supported"`
	ResponseTypes []string `json:"response_types_supported"`
	Scopes        []string `json:"scopes_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	Resources     []string `json:"protected_resources"` // RFC 9728 §4
	Iss           bool     `json:"authorization_response_iss_parameter_supported"`
	CIMD          bool     `json:"client_id_metadata_document_supported"`
}

// Profile is a known provider.
type Profile struct {
	Name string
	// Beyond is what it lacks that its metadata does not tell.
	Beyond []string
	// Setup is what to do at the provider itself.
	Setup string

	config string // ISSUER stands for the issuer
	direct string
	known  func(m Metadata, u *url.URL) bool
}

// Recognise names the provider behind an issuer by its identifier and its document;
// nil for one that is not known.
func Recognise(issuer string, m Metadata) *Profile {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	for i := range profiles {
		if profiles[i].known(m, u) {
			return &profiles[i]
		}
	}
	return nil
}

// All are the known providers.
func All() []*Profile {
	var all []*Profile
	for i := range profiles {
		all = append(all, &profiles[i])
	}
	return all
}

// Config are lines of stile.yaml with which every MCP client gets in. Words in
// capitals are for the reader to replace; the issuer is one of them where it has
// characters that mean something in that file.
func (p *Profile) Config(issuer string) string { return lines(p.config, issuer) }

// Direct are lines with which the provider's own tokens are taken, for clients that
// can be told a client id; empty where its tokens cannot serve at all, and where
// Config does that already.
func (p *Profile) Direct(issuer string) string { return lines(p.direct, issuer) }

// lines puts an issuer in its place. It is a stranger's text, and the lines are to be
// copied: "${NAME}" in it would take something from the reader's environment.
func lines(text, issuer string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:/._~-"
	if strings.Trim(issuer, plain) != "" {
		return text
	}
	return strings.ReplaceAll(text, "ISSUER", issuer)
}

// Lacks are what MCP clients need and the document does not offer; oauth says that it
// stood where RFC 8414 puts it.
func Lacks(m Metadata, oauth bool) []string {
	var lacks []string
	add := func(missing bool, text string) {
		if missing {
			lacks = append(lacks, text)
		}
	}
	add(!oauth, "no RFC 8414 document where clients look, only OpenID Connect's or one in another place (REQ-70)")
	add(!slices.Contains(m.Challenges, "S256"), "S256 is not in code_challenge_methods_supported, so clients refuse it (REQ-56)")
	add(!m.CIMD && m.Registration == "", "neither DCR nor CIMD: no client can register itself (REQ-59)")
	add(!m.CIMD && m.Registration != "", "no CIMD, only DCR, which is deprecated (REQ-59)")
	add(!m.Iss, "no iss in its answers, or not advertised (REQ-72)")
	add(len(m.AuthMethods) > 0 && !slices.Contains(m.AuthMethods, "none"), "token_endpoint_auth_method none is not listed: public clients may think that they need a secret")
	return lacks
}

func host(u *url.URL, suffixes ...string) bool {
	name := strings.ToLower(u.Hostname())
	return slices.ContainsFunc(suffixes, func(s string) bool { return name == s || strings.HasSuffix(name, "."+s) })
}

// ends reports whether the endpoints end so: what a provider's own domain cannot hide.
func ends(m Metadata, authorization, token string) bool {
	return strings.HasSuffix(m.Authorization, authorization) && strings.HasSuffix(m.Token, token)
}
