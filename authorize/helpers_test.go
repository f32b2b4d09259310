package authorize_test

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// decode reads a policy as cmd/stile does.
func decode(text string) (authorize.Config, error) {
	var c authorize.Config
	err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict(), yaml.DisallowUnknownField())
	return c, err
}

func mustDecode(t testing.TB, text string) authorize.Config {
	t.Helper()
	c, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustPolicy(t testing.TB, c authorize.Config) *authorize.Policy {
	t.Helper()
	p, err := authorize.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parsePolicy(t testing.TB, text string) *authorize.Policy {
	t.Helper()
	return mustPolicy(t, mustDecode(t, text))
}

// holder is an identity with scopes; "-" is no token at all.
func holder(scopes string) *authenticate.Identity {
	if scopes == "-" {
		return nil
	}
	set, err := scope.Parse(scopes)
	if err != nil {
		panic(err)
	}
	return &authenticate.Identity{Issuer: "https://idp.example", Subject: "ann", ClientID: "app", Scopes: set,
		Profile: &authenticate.Profile{Issuer: "https://idp.example"}}
}

func request(method string) *message.Call {
	return &message.Call{Kind: message.Request, Era: message.Era2025, Method: method}
}

func tool(name, args string) *message.Call {
	c := request("tools/call")
	c.Name = name
	if args != "" {
		c.Args = jsontext.Value(args)
	}
	return c
}

func prompt(name, args string) *message.Call {
	c := tool(name, args)
	c.Method = "prompts/get"
	return c
}

func read(uri string) *message.Call {
	c := request("resources/read")
	c.URI = uri
	return c
}

func complete(kind, name string) *message.Call {
	c := request("completion/complete")
	c.RefType, c.Name = kind, name
	return c
}

var outcomes = map[authorize.Outcome]string{authorize.Fail: "fail", authorize.Allow: "allow",
	authorize.Challenge: "challenge", authorize.Authenticate: "authenticate", authorize.Deny: "deny"}
