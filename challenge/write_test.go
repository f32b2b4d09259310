package challenge_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/scope"
)

const metadata = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"

func TestHeader(t *testing.T) {
	tests := []struct {
		name string
		c    challenge.Challenge
		want string
	}{
		{"DES-10 the whole form in its order",
			challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"notes:read", "notes:write"},
				ResourceMetadata: metadata, Description: "delete_note needs notes:write. Sign in again and grant it."},
			`Bearer error="insufficient_scope", scope="notes:read notes:write", resource_metadata="` + metadata +
				`", error_description="delete_note needs notes:write. Sign in again and grant it."`},
		{"DES-15 no credentials",
			challenge.Challenge{Scope: scope.Set{"notes:read"}, ResourceMetadata: metadata},
			`Bearer resource_metadata="` + metadata + `", scope="notes:read"`},
		{"DES-15 no credentials, so no word about an error",
			challenge.Challenge{Scope: scope.Set{"notes:read"}, ResourceMetadata: metadata, Description: "authentication required"},
			`Bearer resource_metadata="` + metadata + `", scope="notes:read"`},
		{"DES-15 a bad token",
			challenge.Challenge{Error: "invalid_token", Scope: scope.Set{"notes:read"}, ResourceMetadata: metadata, Description: "the token has expired"},
			`Bearer error="invalid_token", scope="notes:read", resource_metadata="` + metadata + `", error_description="the token has expired"`},
		{"DES-16 a malformed request",
			challenge.Challenge{Error: "invalid_request", ResourceMetadata: metadata},
			`Bearer error="invalid_request", resource_metadata="` + metadata + `"`},
		{"DES-11 no empty values",
			challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{}, ResourceMetadata: metadata},
			`Bearer error="insufficient_scope", resource_metadata="` + metadata + `"`},
		{"DES-11 nothing to say at all", challenge.Challenge{}, `Bearer`},
		{"DES-11 scopes once each, the first place counts",
			challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"b", "a", "b", "a", "c"}, ResourceMetadata: metadata},
			`Bearer error="insufficient_scope", scope="b a c", resource_metadata="` + metadata + `"`},
		{"DES-11 every character of RFC 6749",
			challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"!#$%&'()*+,-./09:;<=>?@AZ[]^_`az{|}~"}},
			"Bearer error=\"insufficient_scope\", scope=\"!#$%&'()*+,-./09:;<=>?@AZ[]^_`az{|}~\""},
		{"DES-11 other scopes are left out",
			challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"a b", `"`, `\`, "é", "\x7f", "", "\t", "x\r\nSet-Cookie: a", "ok", "\xff"}},
			`Bearer error="insufficient_scope", scope="ok"`},
		{"scopes that a client could take for parameters are left out",
			challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"n:resource_metadata=https://evil.example.com",
				"Scope=x", "x,error=y", "=https://evil.example.com", "x_error_description=z", "a=b", "resource_metadata", "n,scope"}},
			`Bearer error="insufficient_scope", scope="a=b resource_metadata n,scope"`},
		{"DES-12 a description with other characters is left out",
			challenge.Challenge{Error: "insufficient_scope", ResourceMetadata: metadata, Description: `needs "a", b=c`},
			`Bearer error="insufficient_scope", resource_metadata="` + metadata + `"`},
		{"DES-12 a description that injects is left out",
			challenge.Challenge{Error: "invalid_token", Description: "x\r\nX-Evil: 1"},
			`Bearer error="invalid_token"`},
		{"DES-12 single spaces",
			challenge.Challenge{Error: "invalid_token", Description: "  the  token has expired "},
			`Bearer error="invalid_token", error_description="the token has expired"`},
		{"DES-12 only spaces",
			challenge.Challenge{Error: "invalid_token", Description: "   "},
			`Bearer error="invalid_token"`},
		{"a URL that could be misread is left out",
			challenge.Challenge{Error: "invalid_token", Scope: scope.Set{"a"}, ResourceMetadata: `https://mcp.example.com/x", scope="admin`},
			`Bearer error="invalid_token", scope="a"`},
		{"an error code of another form is left out",
			challenge.Challenge{Error: `insufficient_scope", scope="admin`, Scope: scope.Set{"a"}, ResourceMetadata: metadata},
			`Bearer resource_metadata="` + metadata + `", scope="a"`},
		{"Optional beyond the list does no harm",
			challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"a"}, Optional: 7},
			`Bearer error="insufficient_scope", scope="a"`},
		{"nor does a negative one",
			challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"a"}, Optional: -7},
			`Bearer error="insufficient_scope", scope="a"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.c.Header()
			if got != tt.want {
				t.Errorf("Header()\n got %s\nwant %s", got, tt.want)
			}
			for range 3 {
				if again := tt.c.Header(); again != got {
					t.Errorf("DES-13: another call gives other bytes: %s", again)
				}
			}
		})
	}
}

// scopes returns n scopes of 20 bytes each with a prefix of 4 letters.
func scopes(prefix string, n int) scope.Set {
	var s scope.Set
	for i := range n {
		s = append(s, fmt.Sprintf("%s:%015d", prefix, i))
	}
	return s
}

func TestHeaderCap(t *testing.T) {
	text := "export_notes needs more scopes. Sign in again and grant them."
	tests := []struct {
		name                 string
		required, held       int
		description          string
		wantRequired         int
		wantHeld             int // -1: fewer than held, at least one
		wantDescription      bool
		wantNearlyFilledWith int // bytes that stay unused at most
	}{
		{"all fits", 3, 100, text, 3, 100, true, challenge.MaxHeader},
		{"DES-09 held scopes go first, from the end", 3, 400, text, 3, -1, true, 21},
		{"all held scopes go before the description", 185, 400, text, 185, 0, true, challenge.MaxHeader},
		{"then the description", 187, 400, text, 187, 0, false, challenge.MaxHeader},
		{"required scopes only when nothing else is left", 400, 0, "", -1, 0, false, 21},
		{"required scopes after everything else", 400, 400, text, -1, 0, false, 21},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			required, held := scopes("need", tt.required), scopes("held", tt.held)
			c := challenge.Challenge{Error: "insufficient_scope", Scope: append(slices.Clone(required), held...), Optional: tt.held,
				ResourceMetadata: metadata, Description: tt.description}
			header := c.Header()
			if len(header) > challenge.MaxHeader || challenge.MaxHeader-len(header) > tt.wantNearlyFilledWith {
				t.Errorf("header has %d bytes", len(header))
			}
			p := parseOne(t, header)
			if got, _ := p.Get("resource_metadata"); got != metadata {
				t.Errorf("resource_metadata = %q", got)
			}
			_, described := p.Get("error_description")
			if described != tt.wantDescription {
				t.Errorf("has a description: %v, want %v", described, tt.wantDescription)
			}
			value, _ := p.Get("scope")
			got := strings.Fields(value)
			if !slices.Equal(got, c.Scope[:len(got)]) {
				t.Error("scopes are not the beginning of the list")
			}
			checkCount(t, "required", min(len(got), tt.required), tt.wantRequired, tt.required)
			checkCount(t, "held", max(0, len(got)-tt.required), tt.wantHeld, tt.held)
		})
	}
}

func checkCount(t *testing.T, what string, got, want, all int) {
	t.Helper()
	if want >= 0 && got != want || want < 0 && (got == 0 || got == all) {
		t.Errorf("%d of %d %s scopes, want %d (-1: some)", got, all, what, want)
	}
}

// The longest pieces that pass the checks leave room for each other.
func TestHeaderOfLongestPieces(t *testing.T) {
	c := challenge.Challenge{Error: strings.Repeat("e", 64), Scope: scope.Set{strings.Repeat("s", 512)},
		ResourceMetadata: "https://" + strings.Repeat("h", 2040)}
	if err := challenge.CheckURL(c.ResourceMetadata); err != nil {
		t.Fatal(err)
	}
	p := parseOne(t, c.Header())
	for name, want := range map[string]string{"error": c.Error, "scope": c.Scope[0], "resource_metadata": c.ResourceMetadata} {
		if got, _ := p.Get(name); got != want {
			t.Errorf("%s has %d bytes, want %d", name, len(got), len(want))
		}
	}
}

func parseOne(t *testing.T, header string) challenge.Parsed {
	t.Helper()
	parsed, err := challenge.Parse([]string{header})
	if err != nil || len(parsed) != 1 {
		t.Fatalf("Parse(%q) = %v, %v; want one challenge", header, parsed, err)
	}
	return parsed[0]
}

func TestChecks(t *testing.T) {
	long := strings.Repeat("x", 513)
	tests := []struct {
		name  string
		check func(string) error
		value string
		want  string // in the error; empty: accepted
	}{
		{"URL", challenge.CheckURL, metadata, ""},
		{"URL on loopback", challenge.CheckURL, "http://127.0.0.1:8080/.well-known/oauth-protected-resource", ""},
		{"URL of an IPv6 host", challenge.CheckURL, "http://[::1]:8080/x", ""},
		{"URL with an escape", challenge.CheckURL, "https://mcp.example.com/a%20b", ""},
		{"URL without a path", challenge.CheckURL, "https://mcp.example.com", ""},
		{"empty URL", challenge.CheckURL, "", "scheme of https or http"},
		{"relative URL", challenge.CheckURL, "/mcp", "scheme of https or http"},
		{"URL without a scheme", challenge.CheckURL, "//mcp.example.com", "scheme of https or http"},
		{"URL of another scheme", challenge.CheckURL, "javascript:alert(1)", "scheme of https or http"},
		{"URL without a host", challenge.CheckURL, "https:///mcp", "with a host"},
		{"opaque URL", challenge.CheckURL, "https:mcp", "with a host"},
		{"URL with a port only", challenge.CheckURL, "https://:80/", "with a host"},
		{"URL with credentials", challenge.CheckURL, "https://user:secret@mcp.example.com", "no credentials"},
		{"URL with a fragment", challenge.CheckURL, "https://mcp.example.com/#x", "at byte 24"},
		{"URL with a quote", challenge.CheckURL, `https://mcp.example.com/"`, "at byte 24"},
		{"URL with a comma", challenge.CheckURL, "https://mcp.example.com/a,b", "at byte 25"},
		{"URL with an equals sign", challenge.CheckURL, "https://mcp.example.com/?scope=x", "at byte 30"},
		{"URL with a space", challenge.CheckURL, "https://mcp.example.com/a b", "at byte 25"},
		{"URL with a line end", challenge.CheckURL, "https://mcp.example.com/\r\n", "at byte 24"},
		{"URL beyond ASCII", challenge.CheckURL, "https://mcp.exämple.com/", "at byte 14"},
		{"URL of invalid UTF-8", challenge.CheckURL, "https://\xff", "at byte 8"},
		{"URL that does not parse", challenge.CheckURL, "https://mcp.example.com/%zz", "invalid URL escape"},
		{"long URL", challenge.CheckURL, "https://" + strings.Repeat("x", 2041), "2049 bytes: want at most 2048"},

		{"scope", challenge.CheckScope, "notes:read", ""},
		{"scope that is a URL", challenge.CheckScope, "https://www.googleapis.com/auth/drive", ""},
		{"scope with an equals sign", challenge.CheckScope, "a=b", ""},
		{"scope called scope", challenge.CheckScope, "scope", ""},
		{"empty scope", challenge.CheckScope, "", "empty"},
		{"two scopes", challenge.CheckScope, "a b", `"a b"`},
		{"scope with a quote", challenge.CheckScope, `a"`, "RFC 6749"},
		{"scope with a backslash", challenge.CheckScope, `a\`, "RFC 6749"},
		{"scope with a control character", challenge.CheckScope, "a\n", "RFC 6749"},
		{"scope with DEL", challenge.CheckScope, "a\x7f", "RFC 6749"},
		{"scope beyond ASCII", challenge.CheckScope, "é", "RFC 6749"},
		{"long scope", challenge.CheckScope, long, "513 bytes: want at most 512"},
		{"scope with a parameter", challenge.CheckScope, "x:resource_metadata=https://evil.example.com", "parameter"},
		{"scope with a parameter in capitals", challenge.CheckScope, "x,SCOPE=y", "parameter"},
		{"scope that gives its neighbour a value", challenge.CheckScope, "=x", "parameter"},

		{"description", challenge.CheckDescription, "note://1 needs notes:read. Sign in again_", ""},
		{"empty description", challenge.CheckDescription, "", "empty"},
		{"description with a comma", challenge.CheckDescription, "a, b", "at byte 1"},
		{"description with an equals sign", challenge.CheckDescription, "a=b", "at byte 1"},
		{"description with a quote", challenge.CheckDescription, `"`, "at byte 0"},
		{"description with a backslash", challenge.CheckDescription, `\`, "at byte 0"},
		{"description beyond ASCII", challenge.CheckDescription, "né", "at byte 1"},
		{"description with a tab", challenge.CheckDescription, "a\tb", "at byte 1"},
		{"description with two spaces", challenge.CheckDescription, "a  b", "single spaces"},
		{"description with a space at the end", challenge.CheckDescription, "a ", "single spaces"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.check(tt.value)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%q: %v", tt.value, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%q: error %v, want one with %q", tt.value, err, tt.want)
			case err != nil && strings.Contains(err.Error(), "secret"):
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

var (
	codePattern        = regexp.MustCompile(`^[a-z_]{1,64}$`)
	descriptionPattern = regexp.MustCompile(`^[A-Za-z0-9 ._:/-]+$`)
	headerPattern      = regexp.MustCompile(`^Bearer[ -~]*$`)
	spacesPattern      = regexp.MustCompile(` +`)
	// paramPatterns are how the TypeScript SDKs look for a parameter.
	paramPatterns = map[string]*regexp.Regexp{}
)

func init() {
	for _, name := range []string{"error", "scope", "resource_metadata", "error_description"} {
		paramPatterns[name] = regexp.MustCompile(name + `=(?:"([^"]+)"|([^\s,]+))`)
	}
}

// readers are clients' ways to read one parameter of a challenge, each as its
// own source does it.
var readers = map[string]func(header, name string) string{
	// @modelcontextprotocol/sdk and client: the first match anywhere.
	"TypeScript": func(header, name string) string {
		match := paramPatterns[name].FindStringSubmatch(header)
		if match == nil {
			return ""
		}
		return match[1] + match[2]
	},
	// The C# SDK: split at every comma, quoted or not.
	"C#": func(header, name string) string {
		_, params, _ := strings.Cut(header, " ")
		for part := range strings.SplitSeq(params, ",") {
			key, value, ok := strings.Cut(part, "=")
			if ok && strings.EqualFold(strings.TrimSpace(key), name) {
				return strings.Trim(strings.TrimSpace(value), `"`)
			}
		}
		return ""
	},
	"go-sdk": func(header, name string) string {
		parsed, err := oauthex.ParseWWWAuthenticate([]string{header})
		if err != nil || len(parsed) != 1 || parsed[0].Scheme != "bearer" {
			return fmt.Sprintf("(%v, %v)", parsed, err)
		}
		return parsed[0].Params[name]
	},
	"ours": func(header, name string) string {
		parsed, err := challenge.Parse([]string{header})
		if err != nil || len(parsed) != 1 || parsed[0].Scheme != "Bearer" {
			return fmt.Sprintf("(%v, %v)", parsed, err)
		}
		value, _ := parsed[0].Get(name)
		return value
	},
}

// wantParams says, without the writer's code, what of a Challenge belongs into
// a header of which everything fits.
func wantParams(c challenge.Challenge) map[string]string {
	want := map[string]string{}
	if codePattern.MatchString(c.Error) {
		want["error"] = c.Error
		if d := strings.Trim(spacesPattern.ReplaceAllString(c.Description, " "), " "); descriptionPattern.MatchString(d) {
			want["error_description"] = d
		}
	}
	if challenge.CheckURL(c.ResourceMetadata) == nil {
		want["resource_metadata"] = c.ResourceMetadata
	}
	var kept []string
	for _, s := range c.Scope {
		if challenge.CheckScope(s) == nil && !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	if len(kept) > 0 {
		want["scope"] = strings.Join(kept, " ")
	}
	return want
}

// FuzzHeader: whatever goes in, out comes one Bearer challenge of at most 4 KiB
// of printable ASCII, in which every client finds what belongs there and nothing
// else.
func FuzzHeader(f *testing.F) {
	f.Add("insufficient_scope", "notes:read\nnotes:write", 1, metadata, "delete_note needs notes:write.")
	f.Add("", "notes:read", 0, metadata, "authentication required")
	f.Add("", "error=x\nscope=y", 0, metadata, "")
	f.Add("invalid_token", "", 0, "https://x/\", scope=\"admin", "a\r\nb")
	f.Add("invalid_token", "x,\nresource_metadata\n=https://evil.example.com", 0, metadata, "x")
	f.Add("invalid_token", "n:resource_metadata=https://evil.example.com\nRESOURCE_METADATA=x", 0, metadata, "scope: error")
	f.Add("a_b", "a,b\n,\n,scope\nerror", 2, "https://h/,", "x=y")
	f.Add("insufficient_scope", strings.Join(scopes("need", 400), "\n"), 390, metadata, strings.Repeat("word ", 100)+"x")
	f.Fuzz(func(t *testing.T, code, list string, optional int, url, description string) {
		c := challenge.Challenge{Error: code, Scope: strings.Split(list, "\n"), Optional: optional,
			ResourceMetadata: url, Description: description}
		header := c.Header()
		if header != c.Header() {
			t.Error("not the same bytes twice (DES-13)")
		}
		if len(header) > challenge.MaxHeader || !headerPattern.MatchString(header) || strings.Contains(header, "  ") {
			t.Fatalf("%d bytes: %q", len(header), header)
		}
		want := wantParams(c)
		fits := len(header)+600 < challenge.MaxHeader
		for who, read := range readers {
			for _, name := range []string{"error", "scope", "resource_metadata", "error_description"} {
				got := read(header, name)
				switch {
				case who == "C#" && strings.Contains(want["scope"], ",") && name == "scope":
					// Cut at the comma: its own fault, and no other parameter suffers.
				case got == want[name]:
				case !fits && name == "scope" && strings.HasPrefix(want[name], got):
				case !fits && name == "error_description" && got == "":
				default:
					t.Errorf("%s reads %s = %q in %q, want %q", who, name, got, header, want[name])
				}
			}
		}
	})
}
