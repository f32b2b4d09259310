package stiletest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// variables are what stands for ${…} in one transcript.
type variables struct {
	issuer   *Issuer
	audience string
	values   map[string]string
	tokens   map[string]string // by the text of their reference
}

func newVariables(env FlowEnv, url string) *variables {
	v := &variables{issuer: env.Issuer, audience: env.Audience, values: map[string]string{"URL": url}, tokens: map[string]string{}}
	if env.Issuer != nil {
		v.values["ISSUER"] = env.Issuer.URL()
	}
	maps.Copy(v.values, env.Vars)
	return v
}

// reference is ${NAME}, ${NAME=} or ${NAME:arguments}.
var reference = regexp.MustCompile(`\$\{([A-Z][A-Z0-9_]*)(=|:[^}]*)?\}`)

// expand replaces the references in a request.
func (v *variables) expand(text string) (string, error) {
	var failed error
	out := reference.ReplaceAllStringFunc(text, func(ref string) string {
		m := reference.FindStringSubmatch(ref)
		value, err := v.value(m[1], m[2], ref)
		if err != nil && failed == nil {
			failed = err
		}
		return value
	})
	return out, failed
}

func (v *variables) value(name, rest, ref string) (string, error) {
	if name == "TOKEN" {
		if token, ok := v.tokens[ref]; ok {
			return token, nil
		}
		token, err := v.mint(strings.TrimPrefix(rest, ":"))
		if err != nil {
			return "", fmt.Errorf("%s: %w", ref, err)
		}
		v.tokens[ref] = token
		return token, nil
	}
	value, ok := v.values[name]
	if !ok || rest != "" {
		return "", fmt.Errorf("%s: no such variable", ref)
	}
	return value, nil
}

// mint makes the token of ${TOKEN:spec}.
func (v *variables) mint(spec string) (string, error) {
	if v.issuer == nil {
		return "", fmt.Errorf("FlowEnv.Issuer is not set")
	}
	c := Claims{}
	if v.audience != "" {
		c.Audience = []string{v.audience}
	}
	for assignment := range strings.SplitSeq(spec, ";") {
		if assignment == "" {
			continue
		}
		key, value, ok := strings.Cut(assignment, "=")
		if !ok {
			return "", fmt.Errorf("%q: an assignment was expected", assignment)
		}
		if err := setClaim(&c, key, value); err != nil {
			return "", err
		}
	}
	return v.issuer.Token(c), nil
}

// setClaim sets one claim of a token.
func setClaim(c *Claims, key, value string) error {
	texts := map[string]*string{
		"scopes": &c.Scope, "sub": &c.Subject, "client": &c.ClientID, "iss": &c.Issuer, "typ": &c.Typ, "alg": &c.Algorithm, "kid": &c.Kid,
	}
	times := map[string]*time.Time{"exp": &c.Expiry, "iat": &c.IssuedAt, "nbf": &c.NotBefore}
	switch {
	case texts[key] != nil:
		*texts[key] = value
	case times[key] != nil:
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("%s: a duration from now was expected, such as -1m: %w", key, err)
		}
		*times[key] = time.Now().Add(d)
	case key == "aud":
		c.Audience = strings.Fields(value)
	case key == "omit":
		c.Omit = strings.Split(value, ",")
	case key == "n":
	default:
		return fmt.Errorf("%q: scopes, sub, client, aud, iss, exp, iat, nbf, typ, alg, kid, omit or n was expected", key)
	}
	return nil
}

// restore puts references where the values of variables stand, the longest value
// first, for a transcript that is written anew. Short values are left alone: they
// may stand for anything.
func (v *variables) restore(text string) string {
	names := slices.SortedFunc(maps.Keys(v.values), func(a, b string) int {
		if d := len(v.values[b]) - len(v.values[a]); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		if len(v.values[name]) >= 8 {
			text = strings.ReplaceAll(text, v.values[name], "${"+name+"}")
		}
	}
	return text
}
