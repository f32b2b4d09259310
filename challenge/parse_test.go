package challenge_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stile-mcp/stile/challenge"
)

type (
	parsed = challenge.Parsed
	params = []challenge.Param
)

var parseTests = []struct {
	name   string
	values []string
	want   []parsed
}{
	{"nothing", nil, nil},
	{"an empty field", []string{""}, nil},
	{"only commas", []string{" , ,\t,"}, nil},
	{"a scheme alone", []string{"Negotiate"}, []parsed{{Scheme: "Negotiate"}}},
	{"a scheme and spaces", []string{"  Negotiate  "}, []parsed{{Scheme: "Negotiate"}}},
	{"two schemes alone", []string{"Negotiate, NTLM"}, []parsed{{Scheme: "Negotiate"}, {Scheme: "NTLM"}}},
	{"a token", []string{"Bearer error=invalid_token"}, []parsed{{Scheme: "Bearer", Params: params{{"error", "invalid_token"}}}}},
	{"a quoted string", []string{`Bearer scope="a b, c=d"`}, []parsed{{Scheme: "Bearer", Params: params{{"scope", "a b, c=d"}}}}},
	{"an empty quoted string", []string{`Bearer scope=""`}, []parsed{{Scheme: "Bearer", Params: params{{"scope", ""}}}}},
	{"quoted pairs", []string{`Basic realm="a \"b\" \\ \c"`}, []parsed{{Scheme: "Basic", Params: params{{"realm", `a "b" \ c`}}}}},
	{"a quoted pair at the end", []string{`Basic realm="a\\", x=y`}, []parsed{{Scheme: "Basic", Params: params{{"realm", `a\`}, {"x", "y"}}}}},
	{"obs-text", []string{"Basic realm=\"caf\xe9\""}, []parsed{{Scheme: "Basic", Params: params{{"realm", "caf\xe9"}}}}},
	{"a tab in a quoted string", []string{"Basic realm=\"a\tb\""}, []parsed{{Scheme: "Basic", Params: params{{"realm", "a\tb"}}}}},
	{"names in any case", []string{`bEARER Error="X", RESOURCE_metadata=y`},
		[]parsed{{Scheme: "bEARER", Params: params{{"error", "X"}, {"resource_metadata", "y"}}}}},
	{"space around =", []string{"Bearer error = \t x , scope\t=\"y\""}, []parsed{{Scheme: "Bearer", Params: params{{"error", "x"}, {"scope", "y"}}}}},
	{"no space at commas", []string{`Bearer a=b,c="d",e=f`}, []parsed{{Scheme: "Bearer", Params: params{{"a", "b"}, {"c", "d"}, {"e", "f"}}}}},
	{"empty elements", []string{`,, Bearer a=b,, ,c=d ,`}, []parsed{{Scheme: "Bearer", Params: params{{"a", "b"}, {"c", "d"}}}}},
	{"an empty element before the first parameter", []string{`Bearer ,a=b`}, []parsed{{Scheme: "Bearer", Params: params{{"a", "b"}}}}},
	{"every sign of a token", []string{"Bearer a!#$%&'*+-.^_`|~9=x!#$%&'*+-.^_`|~9"},
		[]parsed{{Scheme: "Bearer", Params: params{{"a!#$%&'*+-.^_`|~9", "x!#$%&'*+-.^_`|~9"}}}}},
	{"token68", []string{"Negotiate YWJj+/-._~=="}, []parsed{{Scheme: "Negotiate", Token68: "YWJj+/-._~=="}}},
	{"token68 without padding", []string{"Negotiate abc"}, []parsed{{Scheme: "Negotiate", Token68: "abc"}}},
	{"token68 that looks like a name", []string{"Bearer error="}, []parsed{{Scheme: "Bearer", Token68: "error="}}},
	{"token68, then a challenge", []string{"Negotiate abc= , Bearer a=b"},
		[]parsed{{Scheme: "Negotiate", Token68: "abc="}, {Scheme: "Bearer", Params: params{{"a", "b"}}}}},
	{"two challenges in a field (RFC 9110 §11.6.1)", []string{`Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\""`},
		[]parsed{{Scheme: "Basic", Params: params{{"realm", "simple"}}},
			{Scheme: "Newauth", Params: params{{"realm", "apps"}, {"type", "1"}, {"title", `Login to "apps"`}}}}},
	{"a scheme alone, then a challenge", []string{`Negotiate, Bearer a=b`},
		[]parsed{{Scheme: "Negotiate"}, {Scheme: "Bearer", Params: params{{"a", "b"}}}}},
	{"a challenge, then a scheme alone", []string{`Bearer a=b, Negotiate`},
		[]parsed{{Scheme: "Bearer", Params: params{{"a", "b"}}}, {Scheme: "Negotiate"}}},
	{"the same scheme twice, the same name in each", []string{`Bearer a=b, Bearer a=c`},
		[]parsed{{Scheme: "Bearer", Params: params{{"a", "b"}}}, {Scheme: "Bearer", Params: params{{"a", "c"}}}}},
	{"several fields", []string{`Bearer a=b`, ``, `DPoP algs="ES256 PS256", Basic realm=x`},
		[]parsed{{Scheme: "Bearer", Params: params{{"a", "b"}}}, {Scheme: "DPoP", Params: params{{"algs", "ES256 PS256"}}},
			{Scheme: "Basic", Params: params{{"realm", "x"}}}}},
	{"as many challenges as there may be", []string{strings.Repeat("a,", 32)}, repeated(32)},
}

func repeated(n int) []parsed {
	list := make([]parsed, n)
	for i := range list {
		list[i].Scheme = "a"
	}
	return list
}

var parseErrors = []struct {
	name   string
	values []string
	want   string
}{
	{"no scheme", []string{`error=x`}, `line 1, byte 5: parameter "error" belongs to no challenge`},
	{"no scheme on the next line", []string{`Bearer a=b`, `c=d`}, `line 2, byte 1: parameter "c" belongs to no challenge`},
	{"a comma after the scheme (npm mcp-proxy)", []string{`Bearer, error="insufficient_scope"`}, "belongs to no challenge"},
	{"a parameter after token68", []string{`Negotiate abc, a=b`}, "belongs to no challenge"},
	{"a quoted scheme", []string{`"Bearer" a=b`}, `found '"', want a scheme`},
	{"an equals sign first", []string{`=x`}, `found '=', want a scheme`},
	{"no space after the scheme", []string{`Bearer"x"`}, "want a space after the scheme"},
	{"twice", []string{`Bearer a=b, c=d, A=e`}, `parameter "a" occurs twice`},
	{"twice the same", []string{`Bearer a=b, a=b`}, `parameter "a" occurs twice`},
	{"no value", []string{`Bearer a=, b=c, d=`}, "belongs to no challenge"},
	{"no value of a later parameter", []string{`Bearer a=b, c=`}, `parameter "c": has no value`},
	{"no closing quote", []string{`Bearer a="b`}, `parameter "a": has no closing quote`},
	{"a quote that was escaped away", []string{`Bearer a="b\"`}, "has no closing quote"},
	{"a lone backslash at the end", []string{`Bearer a="b\`}, "has no closing quote"},
	{"a line end", []string{"Bearer a=\"b\r\nc\""}, "has the control character 0x0d"},
	{"an escaped control character", []string{"Bearer a=\"b\\\x00\""}, "has the control character"},
	{"DEL", []string{"Bearer a=\"\x7f\""}, "has the control character 0x7f"},
	{"two values", []string{`Bearer a="b" "c"`}, `found '"', want a comma`},
	{"no comma", []string{`Bearer a="b" c="d"`}, `found 'c', want a comma`},
	{"an unquoted URL (EpicMe)", []string{`Bearer resource_metadata=https://x`}, `found ':', want a comma`},
	{"an equals sign in a token", []string{`Bearer a=b=c`}, `found '=', want a comma`},
	{"two words", []string{`Bearer a b`}, "want a parameter after the scheme"},
	{"beyond ASCII in a scheme", []string{"Beärer a=b"}, "want a space after the scheme"},
	{"beyond ASCII in a token", []string{"Bearer a=ä"}, "has no value"},
	{"a control character", []string{"Bearer a=b\x00"}, `want a comma`},
	{"too many challenges", []string{strings.Repeat("a,", 32), "a"}, "line 2, byte 1: more than 32 challenges"},
	{"too many parameters", []string{"Bearer " + manyParams(33)}, "more than 32 parameters"},
	{"too long", []string{`Bearer a="` + strings.Repeat("x", 16<<10) + `"`}, "more than 16384 bytes"},
	{"too long together", []string{strings.Repeat(",", 16<<10), ","}, "more than 16384 bytes"},
}

func manyParams(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("p%d=x", i))
	}
	return strings.Join(list, ", ")
}

func TestParse(t *testing.T) {
	for _, tt := range parseTests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := challenge.Parse(tt.values)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range parseErrors {
		t.Run(tt.name, func(t *testing.T) {
			got, err := challenge.Parse(tt.values)
			if err == nil || !strings.Contains(err.Error(), tt.want) || got != nil {
				t.Errorf("Parse = %v, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}

func TestParseLimits(t *testing.T) {
	for _, value := range []string{"Bearer " + manyParams(32), `Bearer a="` + strings.Repeat("x", 16<<10-len(`Bearer a=""`)) + `"`} {
		if got, err := challenge.Parse([]string{value}); err != nil || len(got) != 1 {
			t.Errorf("at the limit: %v, %v", got, err)
		}
	}
}

// The go-sdk's own parser agrees wherever it follows RFC 9110 too.
func TestParseAgreesWithGoSDK(t *testing.T) {
	differs := map[string]string{
		"an empty quoted string": "refuses an empty value",
		"token68":                "knows no token68", "token68 without padding": "knows no token68",
		"token68 that looks like a name": "knows no token68", "token68, then a challenge": "knows no token68",
		"empty elements": "wants no empty element between parameters",
		"an empty element before the first parameter": "wants no empty element between parameters",
		"space around =": "takes a name with a space behind it for a new scheme",
	}
	for _, tt := range parseTests {
		t.Run(tt.name, func(t *testing.T) {
			theirs, err := oauthex.ParseWWWAuthenticate(tt.values)
			same := err == nil && cmp.Equal(asGoSDK(tt.want), theirs, cmpopts.EquateEmpty())
			if why, listed := differs[tt.name]; same == listed {
				t.Errorf("same: %v, although the list says %q: %v, %v", same, why, theirs, err)
			}
		})
	}
}

func asGoSDK(list []parsed) []oauthex.Challenge {
	var out []oauthex.Challenge
	for _, p := range list {
		c := oauthex.Challenge{Scheme: strings.ToLower(p.Scheme)}
		for _, q := range p.Params {
			if c.Params == nil {
				c.Params = map[string]string{}
			}
			maps.Copy(c.Params, map[string]string{q.Name: q.Value})
		}
		out = append(out, c)
	}
	return out
}

func TestFindAndGet(t *testing.T) {
	list, err := challenge.Parse([]string{`DPoP error=insufficient_scope, bearer realm=x, Bearer error="invalid_token", x=1`,
		`BEARER error=insufficient_scope, scope=""`})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		scheme, code string
		want         int // in list; -1: none
	}{
		{"Bearer", "insufficient_scope", 3}, {"bearer", "invalid_token", 2}, {"Bearer", "", 1}, {"dpop", "insufficient_scope", 0},
		{"Bearer", "INVALID_TOKEN", -1}, {"Basic", "", -1}, {"DPoP", "", -1},
	} {
		got, ok := challenge.Find(list, tt.scheme, tt.code)
		var want parsed
		if tt.want >= 0 {
			want = list[tt.want]
		}
		if ok != (tt.want >= 0) || !cmp.Equal(got, want) {
			t.Errorf("Find(%q, %q) = %v, %v; want number %d", tt.scheme, tt.code, got, ok, tt.want)
		}
	}
	if v, ok := list[3].Get("scope"); v != "" || !ok {
		t.Errorf(`Get("scope") of an empty one = %q, %v`, v, ok)
	}
	if v, ok := list[3].Get("realm"); v != "" || ok {
		t.Errorf(`Get("realm") of none = %q, %v`, v, ok)
	}
}

// FuzzParse: what is parsed and written again parses to the same, in one field
// or in several.
func FuzzParse(f *testing.F) {
	for _, tt := range parseTests {
		f.Add(strings.Join(tt.values, "\n"))
	}
	for _, tt := range parseErrors {
		if value := strings.Join(tt.values, "\n"); len(value) < 1000 {
			f.Add(value)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := challenge.Parse(strings.Split(text, "\n"))
		if err != nil {
			if list != nil {
				t.Errorf("something is returned with the error %v", err)
			}
			return
		}
		var fields []string
		for _, p := range list {
			fields = append(fields, p.String())
			checkParsed(t, p)
		}
		for _, again := range [][]string{fields, {strings.Join(fields, ", ")}} {
			if total := len(strings.Join(again, "")); total > 16<<10 {
				continue // quoting made it longer than may be read
			}
			got, err := challenge.Parse(again)
			if diff := cmp.Diff(list, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("%q: %v\n%s", again, err, diff)
			}
		}
	})
}

// checkParsed holds a challenge against what the grammar promises.
func checkParsed(t *testing.T, p parsed) {
	seen := map[string]bool{}
	for _, q := range p.Params {
		if seen[q.Name] || q.Name == "" || q.Name != strings.ToLower(q.Name) {
			t.Errorf("parameter name %q in %v", q.Name, p)
		}
		seen[q.Name] = true
		if strings.ContainsAny(q.Value, "\r\n\x00\x7f") {
			t.Errorf("control character in %q", q.Value)
		}
	}
	if p.Scheme == "" || strings.ContainsAny(p.Scheme, " \t,=\"") || p.Token68 != "" && p.Params != nil {
		t.Errorf("not a challenge: %#v", p)
	}
}
