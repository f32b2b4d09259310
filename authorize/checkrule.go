package authorize

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxIndex puts the default behind every rule.
const maxIndex = math.MaxInt

func joinOr(list Strings) string { return strings.Join(list, " or ") }

// rule checks one rule and files it under everything it names.
func (k *checker) rule(i int, c *Rule) {
	path := "rules[" + strconv.Itoa(i) + "]"
	r := &rule{index: i, name: path, text: c.describe(path), anonymous: c.Anonymous, deny: c.Deny}
	k.shape(path, c)
	k.targets(path, c, r)
	if c.When != "" {
		k.when(path+".when", c, r)
	}
	if len(c.Scopes) > 0 && c.Deny == "" && !c.Anonymous {
		k.options(path+".scopes", c.Scopes, r, k.variables(c, r))
	}
	if c.Anonymous {
		k.policy.anonymous = true
	}
	k.policy.rules = append(k.policy.rules, r)
}

// shape checks which keys stand together.
func (k *checker) shape(path string, c *Rule) {
	if len(c.Tools)+len(c.Resources)+len(c.Prompts)+len(c.Methods) == 0 {
		k.mistakes.Add(path, "", "it names nothing: expected tools, resources, prompts or methods")
	}
	switch {
	case c.Scopes == nil && !c.Anonymous && c.Deny == "":
		k.mistakes.Add(path, "", "it asks for nothing: expected scopes, anonymous: true or deny")
	case c.Scopes != nil && len(c.Scopes) == 0:
		k.mistakes.Add(path+".scopes", "", "expected at least one scope")
	}
	if c.Deny != "" && strings.TrimSpace(c.Deny) == "" {
		k.mistakes.Add(path+".deny", c.Deny, "expected a reason for the person")
	}
	if c.Deny != "" && c.Scopes != nil {
		k.mistakes.Add(path+".deny", c.Deny, "expected deny or scopes, not both")
	}
	if c.Deny != "" && c.Anonymous {
		k.mistakes.Add(path+".deny", c.Deny, "expected deny or anonymous, not both")
	}
	if c.Anonymous && c.Scopes != nil {
		k.mistakes.Add(path+".anonymous", "true", "expected anonymous or scopes, not both")
	}
}

// targets files the rule under the names and URIs it is for.
func (k *checker) targets(path string, c *Rule, r *rule) {
	p := k.policy
	for _, t := range []struct {
		key  string
		list Strings
		add  func(string, *rule) error
	}{
		{"tools", c.Tools, p.tools.add},
		{"resources", c.Resources, p.resources.add},
		{"prompts", c.Prompts, p.prompts.add},
		{"methods", c.Methods, p.methods.add},
	} {
		for i, name := range t.list {
			here := at(path+"."+t.key, t.list, i)
			if name == "" {
				k.mistakes.Add(here, "", "it is empty: expected a name or a pattern")
				continue
			}
			if slices.Contains(t.list[:i], name) {
				k.mistakes.Add(here, name, "stands there twice")
				continue
			}
			if err := t.add(name, r); err != nil {
				k.mistakes.Add(here, name, err.Error())
			}
			if t.key == "resources" && c.Scopes != nil && isUI(normalURI(name)) {
				k.mistakes.Add(here, name, "ui:// resources need the baseline only: expected deny or anonymous for them (DES-22)")
			}
		}
	}
}

// when compiles the condition and looks whether what it reads can be there.
func (k *checker) when(path string, c *Rule, r *rule) {
	w := k.conditions[c.When]
	if w == nil {
		var err error
		if w, err = compileCondition(c.When); err != nil {
			k.mistakes.Add(path, c.When, err.Error())
			return
		}
		k.conditions[c.When] = w
	}
	r.when = w
	switch {
	case w.args && len(c.Tools)+len(c.Prompts)+len(c.Methods) == 0:
		k.mistakes.Add(path, c.When, "it reads args, which resources do not have: expected uri")
	case w.uri && len(c.Resources)+len(c.Methods) == 0:
		k.mistakes.Add(path, c.When, "it reads uri, which only resources have: expected args")
	case w.tool && len(c.Tools)+len(c.Methods) == 0:
		k.mistakes.Add(path, c.When, "it reads tool, which only rules for tools can")
	}
	k.policy.needsClaims = k.policy.needsClaims || w.token
	k.policy.needsTools = k.policy.needsTools || w.tool
}

// variables checks the variables that stand in the scopes of a rule: those of
// every template it names, or else arguments.
func (k *checker) variables(c *Rule, r *rule) func(path, name string) {
	return func(path, name string) {
		if len(c.Methods) > 0 {
			k.mistakes.Add(path, "{"+name+"}", "a rule for methods has no variables: expected scopes without")
			return
		}
		for _, text := range c.Resources {
			pattern, err := parseURIPattern(text)
			if err == nil && !slices.Contains(pattern.vars, name) {
				k.mistakes.Add(path, "{"+name+"}", "expected a variable of the template "+text)
			}
		}
		if len(c.Tools)+len(c.Prompts) > 0 {
			if r.variables == nil {
				r.variables = &members{}
			}
			r.variables.child(name)
		}
	}
}
