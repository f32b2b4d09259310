package stile_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

var (
	docBlocks = regexp.MustCompile("(?s)```yaml\n(.*?)```\n\n```calls\n(.*?)```")
	docLine   = regexp.MustCompile(`^(\S+)(?: ([^\s{\[]+))?(?: (\{.*\}))? \[(.*)\] = (.+)$`)
)

// TestPolicyDocument decides every line of docs/policy.md.
func TestPolicyDocument(t *testing.T) {
	text, err := os.ReadFile("docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := docBlocks.FindAllStringSubmatch(string(text), -1)
	if want := strings.Count(string(text), "```yaml"); len(blocks) != want || want == 0 {
		t.Fatalf("%d policies with calls below them, want all %d", len(blocks), want)
	}
	for _, block := range blocks {
		var config authorize.Config
		if err := yaml.UnmarshalWithOptions([]byte(block[1]), &config, yaml.Strict(), yaml.DisallowUnknownField()); err != nil {
			t.Errorf("policy does not parse: %v\n%s", err, block[1])
			continue
		}
		policy, err := authorize.New(config)
		if err != nil {
			t.Errorf("policy does not compile: %v\n%s", err, block[1])
			continue
		}
		for line := range strings.Lines(block[2]) {
			checkDocLine(t, policy, strings.TrimSpace(line))
		}
	}
}

func checkDocLine(t *testing.T, policy *authorize.Policy, line string) {
	m := docLine.FindStringSubmatch(line)
	if m == nil {
		t.Errorf("cannot read %q", line)
		return
	}
	call := docCall(t, m[1], m[2], m[3])
	var id *authenticate.Identity
	if m[4] != "no token" {
		id = &authenticate.Identity{Issuer: "https://idp.example.com", Subject: "alice", Scopes: scope.Set(strings.Fields(m[4])),
			Expiry: time.Now().Add(time.Hour), Profile: &authenticate.Profile{Issuer: "https://idp.example.com"}}
	}
	d := policy.Decide(id, call)
	got := [...]string{"fail", "allow", "challenge", "401", "deny"}[d.Outcome]
	if d.Outcome == authorize.Challenge {
		ask, _ := policy.Advertise(id, d)
		got += " " + strings.Join(ask, " ")
	}
	if got != m[5] {
		t.Errorf("%s\n\tgot %s (%v)", line, got, d.Err)
	}
}

// docCall is the message that a line stands for, read as the gateway reads it.
func docCall(t *testing.T, method, what, args string) *message.Call {
	params := map[string]any{}
	switch method {
	case "tools/call", "prompts/get":
		params["name"] = what
	case "resources/read", "resources/subscribe":
		params["uri"] = what
	case "completion/complete":
		params["ref"] = map[string]any{"type": "ref/prompt", "name": what}
		params["argument"] = map[string]any{"name": "a", "value": "b"}
	case "initialize":
		params["protocolVersion"] = "2025-11-25"
	}
	if args != "" {
		params["arguments"] = json.RawMessage(args)
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		t.Fatal(err)
	}
	call, merr := message.Read(body)
	if merr != nil {
		t.Fatal(fmt.Errorf("%s: %w", body, merr))
	}
	return call
}
