package main

import (
	"errors"

	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/authserver/provider"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/scope"
)

// checkLogin looks at the OpenID provider.
func (f *File) checkLogin(list *problem.List) {
	if f.Login == nil {
		return
	}
	for group, scopes := range f.Login.Groups {
		if bad := badScope(scopes); bad != "" {
			list.Add(join("login.groups", group), bad, wantScope)
		}
	}
	var found problem.List
	if _, err := provider.New(f.providerConfig()); errors.As(err, &found) {
		for _, one := range found {
			*list = append(*list, one.At("login"))
		}
	}
}

// providerConfig is what signs people in; there has to be a login. Scopes that are
// none are left out.
func (f *File) providerConfig() provider.Config {
	l := f.Login
	config := provider.Config{Issuer: l.Issuer, ClientID: l.ClientID, ClientSecret: l.ClientSecret, RedirectURL: f.PublicURL + portal.PathCallback,
		Scopes: l.Scopes, GroupsClaim: l.GroupsClaim, AllowEmails: l.Allow.Emails, AllowGroups: l.Allow.Groups}
	if l.Groups != nil {
		config.Groups = map[string][]string{}
		for group, text := range l.Groups {
			scopes, _ := scope.Parse(text) // checked before
			config.Groups[group] = scopes
		}
	}
	return config
}
