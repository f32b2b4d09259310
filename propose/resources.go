package propose

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// manyResources is how many resources of one scheme are still listed by name.
const manyResources = 20

// expression is one expression of a URI template.
var expression = regexp.MustCompile(`\{[^{}]*\}`)

// resources puts what can be read into the grant of reading: templates as they
// are, or with "*" where they say more than a policy understands, and resources by
// their URIs, or by what they have in common where there are many.
func (p *Proposal) resources(in Inventory, g *Grant) {
	for _, template := range sorted(in.Templates) {
		if isUI(template) {
			p.From.Templates = append(p.From.Templates, template)
			continue // the baseline is enough for user interfaces
		}
		pattern, why := usableTemplate(template)
		if why != "" {
			p.LeftOut = append(p.LeftOut, LeftOut{"resource template", template, why})
			continue
		}
		p.From.Templates = append(p.From.Templates, template)
		note := ""
		if pattern != template {
			note = "for " + oneLine(template, 48)
		}
		g.Resources = append(g.Resources, Entry{pattern, note})
	}
	byScheme := map[string][]string{}
	for _, uri := range sorted(in.Resources) {
		if isUI(uri) {
			p.From.Resources = append(p.From.Resources, uri)
			continue
		}
		if strings.ContainsAny(uri, "*{}") {
			p.LeftOut = append(p.LeftOut, LeftOut{"resource", uri, "no rule can name a URI with * or braces and no other"})
			continue
		}
		if p.refused("resource", uri, callOf("resources/read", "uri", uri), authorize.Rule{Resources: authorize.Strings{uri}}) {
			continue
		}
		p.From.Resources = append(p.From.Resources, uri)
		scheme, _, _ := strings.Cut(uri, ":")
		byScheme[scheme] = append(byScheme[scheme], uri)
	}
	for _, scheme := range slices.Sorted(maps.Keys(byScheme)) {
		g.Resources = append(g.Resources, gather(byScheme[scheme])...)
	}
	g.Resources = withoutRepeats(g.Resources)
}

// withoutRepeats keeps the first of the entries with one pattern.
func withoutRepeats(entries []Entry) []Entry {
	seen := map[string]bool{}
	return slices.DeleteFunc(entries, func(e Entry) bool {
		before := seen[e.Pattern]
		seen[e.Pattern] = true
		return before
	})
}

// gather are the patterns for the resources of one scheme.
func gather(uris []string) []Entry {
	if len(uris) > manyResources {
		common := uris[0]
		for _, uri := range uris {
			for !strings.HasPrefix(uri, common) {
				common = common[:len(common)-1]
			}
		}
		// Up to a whole segment behind the scheme, so that it says something.
		if cut := strings.LastIndexByte(common, '/') + 1; cut > strings.IndexByte(common, ':') {
			if pattern := common[:cut] + "*"; allMatch(pattern, uris) {
				return []Entry{{pattern, fmt.Sprintf("%d resources", len(uris))}}
			}
		}
	}
	var all []Entry
	for _, uri := range uris {
		all = append(all, Entry{Pattern: uri})
	}
	return all
}

// allMatch reports whether a pattern covers every URI, as the policy decides it.
func allMatch(pattern string, uris []string) bool {
	policy, err := authorize.New(authorize.Config{Rules: []authorize.Rule{{Resources: authorize.Strings{pattern}, Scopes: trialScopes}}})
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(uris, func(uri string) bool { return judge(policy, callOf("resources/read", "uri", uri)) != "" })
}

// usableTemplate is a template as a policy can have it, or why there is none. What
// is more than a policy understands becomes "*", behind a scheme at least.
func usableTemplate(template string) (pattern, why string) {
	wild := expression.ReplaceAllString(template, "*")
	for strings.Contains(wild, "**") {
		wild = strings.ReplaceAll(wild, "**", "*")
	}
	try := []string{template}
	if before, _, _ := strings.Cut(wild, "*"); strings.Contains(before, ":") && !strings.ContainsAny(wild, "{}") {
		try = append(try, wild)
	}
	for _, pattern := range try {
		why = tryRule(authorize.Rule{Resources: authorize.Strings{pattern}}, callOf("resources/read", "uri", exactFill(template)))
		if why == "" {
			return pattern, ""
		}
	}
	return "", why
}

// exactFill is a URI of the template.
func exactFill(template string) string { return expression.ReplaceAllString(template, "a1") }

func isUI(uri string) bool { return strings.HasPrefix(strings.ToLower(uri), "ui://") }

// escapeGlob is the pattern of exactly one name.
func escapeGlob(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// refused notes something that no rule can name, or no client could call.
func (p *Proposal) refused(kind, name string, call []byte, rule authorize.Rule) bool {
	why := tryRule(rule, call)
	if why != "" {
		p.LeftOut = append(p.LeftOut, LeftOut{kind, name, why})
	}
	return why != ""
}

var trialScopes = authorize.Strings{"x"}

// tryRule says why a call would not be allowed by a rule that is meant for it, ""
// when it is. The gateway's own reader and policy decide.
func tryRule(rule authorize.Rule, call []byte) string {
	for _, list := range []authorize.Strings{rule.Tools, rule.Resources, rule.Prompts} {
		for _, text := range list {
			if !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) {
				return "it is not UTF-8 text"
			}
		}
	}
	rule.Scopes = trialScopes
	policy, err := authorize.New(authorize.Config{Rules: []authorize.Rule{rule}})
	if err != nil {
		return "no rule can name it"
	}
	return judge(policy, call)
}

func judge(policy *authorize.Policy, body []byte) string {
	call, wrong := message.Read(body)
	if wrong != nil {
		return wrong.Message
	}
	id := &authenticate.Identity{Profile: &authenticate.Profile{}, Scopes: scope.Of("x")}
	if policy.Decide(id, call).Outcome != authorize.Allow {
		return "no rule can name it"
	}
	return ""
}

// Body is the request by which a client makes a call.
func Body(c Call) []byte { return callOf(c.Method, c.Key, c.Name) }

// callOf is the request by which a client uses something.
func callOf(method, key, value string) []byte {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": map[string]string{key: value}})
	if err != nil {
		panic("propose: strings cannot be marshalled: " + err.Error())
	}
	return body
}
