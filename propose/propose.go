package propose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/authorize"
)

// Proposal is who may do what, ready to be written down or used as a policy.
type Proposal struct {
	// Name is what every scope begins with and how the server is called.
	Name string
	// Grants are the scopes that are needed, the weakest first. Read is always
	// there, because it is the baseline.
	Grants []Grant
	// LeftOut is what no rule can name; the policy refuses it.
	LeftOut []LeftOut
	// From is the inventory it was made from, without what was left out and what
	// stood there twice, sorted.
	From Inventory
}

// Grant is one scope and what it opens.
type Grant struct {
	Right Right
	// Scope is name, ":" and the right.
	Scope string
	// Description is the sentence for people; it holds only letters, digits,
	// spaces and "._:/-".
	Description               string
	Tools, Resources, Prompts []Entry
}

// Entry is one pattern of a rule.
type Entry struct {
	// Pattern is as the policy has it.
	Pattern string
	// Note is a remark for whoever reads the file, of Stile's own words and in one
	// line, or empty.
	Note string
}

// LeftOut is something that the server offers and no rule can name.
type LeftOut struct {
	Kind, Name, Why string
}

// Make proposes a policy. name is what scopes begin with; empty means that of the
// server, made safe. It is a pure function, and never fails: what cannot be named
// is in LeftOut.
func Make(in Inventory, name string) *Proposal {
	if name == "" {
		name = SafeName(in.Server)
	}
	p := &Proposal{Name: name, From: Inventory{Server: in.Server, Version: in.Version}}
	grants := map[Right]*Grant{Read: {}}
	at := func(r Right) *Grant {
		if grants[r] == nil {
			grants[r] = &Grant{}
		}
		return grants[r]
	}
	for _, tool := range distinct(in.Tools) {
		if p.refused("tool", tool.Name, callOf("tools/call", "name", tool.Name), authorize.Rule{Tools: authorize.Strings{escapeGlob(tool.Name)}}) {
			continue
		}
		p.From.Tools = append(p.From.Tools, tool)
		g := at(tool.right())
		g.Tools = append(g.Tools, Entry{escapeGlob(tool.Name), tool.note()})
	}
	p.resources(in, at(Read))
	for _, prompt := range sorted(in.Prompts) {
		if p.refused("prompt", prompt, callOf("prompts/get", "name", prompt), authorize.Rule{Prompts: authorize.Strings{escapeGlob(prompt)}}) {
			continue
		}
		p.From.Prompts = append(p.From.Prompts, prompt)
		at(Read).Prompts = append(at(Read).Prompts, Entry{Pattern: escapeGlob(prompt)})
	}
	for _, right := range slices.Sorted(maps.Keys(grants)) {
		g := grants[right]
		g.Right, g.Scope, g.Description = right, name+":"+right.String(), describe(right, name)
		p.Grants = append(p.Grants, *g)
	}
	return p
}

// describe is the sentence that people read before they grant a right.
func describe(right Right, name string) string {
	return fmt.Sprintf([...]string{
		Read:  "Read on the server %s. Nothing is changed.",
		Write: "Add on the server %s. Nothing is overwritten or deleted.",
		Admin: "Change and delete on the server %s.",
	}[right], name)
}

// distinct are the tools by name, each once and with the stricter hints.
func distinct(tools []Tool) []Tool {
	byName := map[string]Tool{}
	for _, tool := range tools {
		if before, twice := byName[tool.Name]; twice {
			tool = strictest(before, tool)
		}
		byName[tool.Name] = tool
	}
	var all []Tool
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, byName[name])
	}
	return all
}

// sorted are texts in order, each once.
func sorted(texts []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(texts)))
}

// Top is the scope that opens everything.
func (p *Proposal) Top() string { return p.Grants[len(p.Grants)-1].Scope }

// Call is one use of something that the server listed.
type Call struct {
	// Method, and the parameter that names what it is about.
	Method, Key, Name string
	// Scope is what the proposal wants for it.
	Scope string
}

// Calls are the uses of everything in From: each tool called, each prompt got, and
// each resource, and one of each template, read.
func (p *Proposal) Calls() []Call {
	var all []Call
	for _, tool := range p.From.Tools {
		all = append(all, Call{"tools/call", "name", tool.Name, p.Name + ":" + tool.right().String()})
	}
	read := p.Grants[0].Scope
	for _, uri := range p.From.Resources {
		all = append(all, Call{"resources/read", "uri", uri, read})
	}
	for _, template := range p.From.Templates {
		all = append(all, Call{"resources/read", "uri", exactFill(template), read})
	}
	for _, prompt := range p.From.Prompts {
		all = append(all, Call{"prompts/get", "name", prompt, read})
	}
	return all
}

// Policy is the proposal for package authorize; what YAML writes says the same.
func (p *Proposal) Policy() authorize.Config {
	c := authorize.Config{Baseline: p.Grants[0].Scope, Default: authorize.Strings{"deny"}}
	for i, g := range p.Grants {
		if i > 0 {
			if c.Implies == nil {
				c.Implies = map[string]authorize.Strings{}
			}
			c.Implies[g.Scope] = authorize.Strings{p.Grants[i-1].Scope}
		}
		if g.empty() {
			continue
		}
		c.Rules = append(c.Rules, authorize.Rule{Tools: patterns(g.Tools), Resources: patterns(g.Resources),
			Prompts: patterns(g.Prompts), Scopes: authorize.Strings{g.Scope}})
	}
	return c
}

// Descriptions are the sentences by scope.
func (p *Proposal) Descriptions() map[string]string {
	all := map[string]string{}
	for _, g := range p.Grants {
		all[g.Scope] = g.Description
	}
	return all
}

// Count says how much the grant opens, such as "2 tools, 1 prompt".
func (g *Grant) Count() string {
	return count([]int{len(g.Tools), len(g.Resources), len(g.Prompts)}, []string{"tool", "resource pattern", "prompt"})
}

// String is one line of printable ASCII.
func (l LeftOut) String() string {
	return l.Kind + " " + oneLine(l.Name, 40) + ": " + oneLine(l.Why, 60)
}

func (g *Grant) empty() bool { return len(g.Tools)+len(g.Resources)+len(g.Prompts) == 0 }

func patterns(entries []Entry) authorize.Strings {
	var all authorize.Strings
	for _, e := range entries {
		all = append(all, e.Pattern)
	}
	return all
}

// SafeName makes what a server calls itself the beginning of a scope and the name
// of a server in the file: lower-case letters, digits, ".", "_" and "-", at most
// 32, and what every MCP server could be called left out.
func SafeName(said string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(said) {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '.', r == '_':
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() > 4*maxName {
			break
		}
	}
	name := strings.Trim(b.String(), "-._")
	for _, prefix := range []string{"mcp-servers-", "mcp-server-"} {
		name = strings.TrimPrefix(name, prefix)
	}
	for _, suffix := range []string{"-mcp-server", "-mcp"} {
		name = strings.TrimSuffix(name, suffix)
	}
	if len(name) > maxName {
		name = name[:maxName]
	}
	switch name = strings.Trim(name, "-._"); name {
	case "":
		return "mcp"
	case "file":
		return "file-server" // "file:read" would be the content of a file
	default:
		return name
	}
}

// maxName is the longest name of SafeName, in bytes.
const maxName = 32
