package authorize

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// listed judges an entry of a list by the rules for what can be done with it,
// leaving open what only a call can tell. What is unmatched in the result has no
// rule that could ever match; the default has been joined then.
func (p *Policy) listed(id *authenticate.Identity, kind *listKind, name string) *joined {
	q := &query{p: p, id: id, mode: asList, method: p.methods.find(kind.use),
		call: &message.Call{Kind: message.Request, Method: kind.use}}
	var j *joined
	switch kind.member {
	case "tools":
		q.tool = name
		j = q.named(&p.tools, name)
	case "prompts":
		j = q.named(&p.prompts, name)
	case "resources":
		j = q.resource(name)
	default:
		j = q.template(name)
		prefix, _, _ := strings.Cut(name, "{")
		if j.unmatched && p.resources.mayOverlap(prefix, func(r *rule) bool { return r.deny == "" }) {
			j.unmatched = false
		}
	}
	if j.unmatched && slices.ContainsFunc(j.undecided, func(r *rule) bool { return r.deny == "" && !isFor(q.method, r) }) {
		j.unmatched = false
	}
	if j.unmatched && p.fallback != nil {
		j.take(p.fallback, p.fallback.sets)
		j.unmatched = false
	}
	return j
}

func isFor(method []*rule, r *rule) bool { return slices.Contains(method, r) }

// shows reports whether an entry stays in a list.
func (p *Policy) shows(id *authenticate.Identity, j *joined) bool {
	switch {
	case j.deny != nil || j.err != nil || j.unmatched:
		return false
	case id == nil:
		return !p.onlyGranted || j.anonymous ||
			j.holding == 0 && slices.ContainsFunc(j.undecided, func(r *rule) bool { return r.anonymous })
	}
	for i := range j.needs {
		n := &j.needs[i]
		if p.firstMet(id.Scopes, n.options) >= 0 || n.open && n.held {
			continue
		}
		if p.onlyGranted || id.Final {
			return false
		}
		if _, ok := p.obtainable(id, n); !ok && !n.open {
			return false
		}
	}
	return true
}

// schemesOf is the securitySchemes of a tool (DES-33): the scopes that every call
// of it needs, in the words of the caller's authorization server.
func (p *Policy) schemesOf(id *authenticate.Identity, j *joined) []byte {
	if j.anonymous {
		if slices.ContainsFunc(j.undecided, func(r *rule) bool { return !r.anonymous && r.deny == "" }) {
			return []byte(`[{"type":"noauth"},` + string(oauthScheme(p.baseline, p.prefixFor(id))) + `]`)
		}
		return []byte(`[{"type":"noauth"}]`)
	}
	var scopes scope.Set
	for _, n := range j.needs {
		if len(n.options) == 0 {
			continue
		}
		best := n.options[0]
		if id != nil {
			for _, option := range n.options {
				if grantable(id.Profile, option) {
					best = option
					break
				}
			}
		}
		scopes = scopes.Union(best)
	}
	return append(append([]byte{'['}, oauthScheme(scopes, p.prefixFor(id))...), ']')
}

func (p *Policy) prefixFor(id *authenticate.Identity) string {
	if id == nil || id.Profile == nil {
		return p.prefix
	}
	return id.Profile.ScopePrefix
}

func oauthScheme(scopes scope.Set, prefix string) []byte {
	b := []byte(`{"type":"oauth2","scopes":[`)
	for i, token := range scopes {
		if i > 0 {
			b = append(b, ',')
		}
		// A scope is printable ASCII, of which nothing can fail to be quoted.
		b, _ = jsontext.AppendQuote(b, prefix+token)
	}
	return append(b, ']', '}')
}

const schemesMember = "securitySchemes"

// annotate writes the schemes into a tool and into its _meta, in the place of the
// upstream's own. The other bytes of the entry stay as they are.
func annotate(entry []byte, members []jsonMember, schemes []byte) ([]byte, error) {
	s := &splice{raw: entry}
	whole := span{0, len(entry)}
	own, found, err := lookup(members, schemesMember)
	if err != nil {
		return nil, err
	}
	if found {
		s.replace(own, schemes)
	} else {
		s.insert(whole, len(members) == 0, schemesMember, schemes)
	}
	meta, found, err := lookup(members, "_meta")
	switch {
	case err != nil:
		return nil, err
	case !found:
		s.insert(whole, false, "_meta", append(append([]byte(`{"`+schemesMember+`":`), schemes...), '}'))
		return s.bytes(), nil
	case entry[meta.start] != '{':
		return s.bytes(), nil
	}
	inner, err := membersOf(meta.of(entry))
	if err != nil {
		return nil, err
	}
	mirror, found, err := lookup(inner, schemesMember)
	switch {
	case err != nil:
		return nil, err
	case found:
		s.replace(span{meta.start + mirror.start, meta.start + mirror.end}, schemes)
	default:
		s.insert(meta, len(inner) == 0, schemesMember, schemes)
	}
	return s.bytes(), nil
}
