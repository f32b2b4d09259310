package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// explainCommand tells what would be decided about a call. It asks the same
// policy and writes the same challenge as the gateway, and reaches no network.
type explainCommand struct {
	configFlag
	Server      string  `placeholder:"NAME" help:"The server that is called; needed when the file has several."`
	Scopes      *string `placeholder:"\"A B\"" help:"The scopes of the caller's token. Without it there is no token."`
	Issuer      string  `placeholder:"URL" help:"The issuer of the token. Default: the first one of the file."`
	Claims      string  `placeholder:"JSON" help:"The claims of the token, for conditions over token."`
	Args        string  `placeholder:"JSON" help:"The arguments of tools/call or prompts/get."`
	Annotations string  `placeholder:"JSON" help:"The annotations of the tool, for conditions over tool."`
	Fail        bool    `help:"Exit with 1 unless the call would be let through."`

	Method string `arg:"" help:"The method, such as tools/call."`
	Target string `arg:"" optional:"" help:"The tool, prompt or URI it acts on."`
}

func (c *explainCommand) run(p *process) error {
	f, err := load(c.Config, p.around)
	if err != nil {
		return err
	}
	name, err := f.serverNamed(c.Server)
	if err != nil {
		return err
	}
	rules, err := c.compile(f.policies[name])
	if err != nil {
		return err
	}
	call, err := c.call()
	if err != nil {
		return err
	}
	id, err := c.identity(f)
	if err != nil {
		return err
	}
	e := explanation{
		call: call, id: id, policy: rules, from: f.policies[name], server: name,
		resource: f.resource(f.Servers.get(name)),
		metadata: stile.MetadataURL(f.PublicURL, f.Servers.get(name).Path),
		profiles: f.profiles(),
		decision: rules.Decide(id, call), annotated: c.Annotations != "",
	}
	e.write(p.stdout)
	if c.Fail && e.decision.Outcome != authorize.Allow {
		return errRefused
	}
	return nil
}

// serverNamed finds the server that is meant.
func (f *File) serverNamed(name string) (string, error) {
	var names []string
	for _, s := range f.Servers {
		names = append(names, s.Name)
	}
	switch {
	case name == "" && len(names) == 1:
		return names[0], nil
	case name != "" && f.Servers.get(name) != nil:
		return name, nil
	case name == "":
		return "", usageError{"the file has several servers: add --server with one of " + strings.Join(names, ", ")}
	default:
		return "", usageError{fmt.Sprintf("no server is called %q: expected one of %s", name, strings.Join(names, ", "))}
	}
}

// compile is the policy with the annotations that were given for the tool.
func (c *explainCommand) compile(p *policy) (*authorize.Policy, error) {
	if c.Annotations == "" {
		return p.compiled, nil
	}
	var annotations map[string]any
	if err := json.Unmarshal([]byte(c.Annotations), &annotations); err != nil {
		return nil, usageError{"--annotations: expected a JSON object"}
	}
	config := p.config // with the prefix that compile put in
	config.Tools = func(name string) (map[string]any, bool) { return annotations, name == c.Target }
	return authorize.New(config)
}

// call makes the message that a client would send, and reads it as the gateway
// does.
func (c *explainCommand) call() (*message.Call, error) {
	params, err := c.params()
	if err != nil {
		return nil, err
	}
	request := map[string]any{"jsonrpc": "2.0", "method": c.Method, "params": params}
	if !strings.HasPrefix(c.Method, "notifications/") {
		request["id"] = 1
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, usageError{"--args: expected a JSON object"}
	}
	call, wrong := message.Read(body)
	if wrong != nil {
		return nil, usageError{wrong.Message}
	}
	return call, nil
}

// params are the params of the call: what the method acts on, where it acts on
// anything.
func (c *explainCommand) params() (map[string]any, error) {
	params := map[string]any{}
	if c.Method != "initialize" {
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
			"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		}
	}
	wants, takesArgs := true, false
	switch c.Method {
	case "tools/call", "prompts/get":
		params["name"], takesArgs = c.Target, true
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		params["uri"] = c.Target
	case "tasks/get", "tasks/update", "tasks/cancel", "tasks/result":
		params["taskId"] = c.Target
	case "completion/complete":
		params["ref"] = map[string]any{"type": "ref/prompt", "name": c.Target}
		if strings.Contains(c.Target, "://") {
			params["ref"] = map[string]any{"type": "ref/resource", "uri": c.Target}
		}
		params["argument"] = map[string]any{"name": "", "value": ""}
	case "subscriptions/listen":
		params["notifications"] = map[string]any{"resourceSubscriptions": []string{c.Target}}
	default:
		wants = false
	}
	switch {
	case wants && c.Target == "":
		return nil, usageError{c.Method + " needs the name or URI that it acts on"}
	case !wants && c.Target != "":
		return nil, usageError{fmt.Sprintf("%s acts on nothing by name: expected no %q", c.Method, c.Target)}
	case c.Args != "" && !takesArgs:
		return nil, usageError{"--args is only for tools/call and prompts/get"}
	case c.Args != "":
		params["arguments"] = json.RawMessage(c.Args)
	}
	return params, nil
}

// identity is the caller: nil without --scopes.
func (c *explainCommand) identity(f *File) (*authenticate.Identity, error) {
	if c.Scopes == nil {
		if c.Claims != "" {
			return nil, usageError{"--claims: expected with --scopes, which says that there is a token"}
		}
		return nil, nil
	}
	if bad := badScope(*c.Scopes); bad != "" {
		return nil, usageError{fmt.Sprintf("--scopes: %q: %s", bad, wantScope)}
	}
	claims := c.Claims
	if claims == "" {
		claims = "{}"
	}
	var object map[string]any
	if json.Unmarshal([]byte(claims), &object) != nil || object == nil {
		return nil, usageError{"--claims: expected a JSON object"}
	}
	profile, err := f.profileOf(c.Issuer)
	if err != nil {
		return nil, err
	}
	return &authenticate.Identity{Issuer: profile.Issuer, Subject: "somebody", Profile: profile,
		Scopes: unique(strings.Fields(*c.Scopes)), Claims: []byte(claims)}, nil
}

// profileOf is the issuer that is meant: the first one without a name.
func (f *File) profileOf(issuer string) (*authenticate.Profile, error) {
	profiles := f.profiles()
	if issuer == "" && len(profiles) > 0 {
		return profiles[0], nil
	}
	for _, p := range profiles {
		if p.Issuer == issuer {
			return p, nil
		}
	}
	if issuer == "" {
		return &authenticate.Profile{}, nil
	}
	return nil, usageError{fmt.Sprintf("--issuer: %q is not in the configuration", issuer)}
}

// unique is a list without repetitions.
func unique(tokens []string) scope.Set {
	var set scope.Set
	seen := map[string]bool{}
	for _, token := range tokens {
		if !seen[token] {
			set = append(set, token)
		}
		seen[token] = true
	}
	return set
}

// explanation is one decision and all that it was made from.
type explanation struct {
	server, resource, metadata string

	call     *message.Call
	id       *authenticate.Identity
	policy   *authorize.Policy
	from     *policy
	profiles []*authenticate.Profile
	decision authorize.Decision

	annotated bool // --annotations was given
}

// write tells the decision, in 80 columns but for the header.
func (e *explanation) write(w io.Writer) {
	d := e.decision
	fmt.Fprintf(w, "%s at %s (%s)\n\n%s\n\n", e.what(), e.server, e.resource, e.outcome())
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-8s %s\n", name, value)
		}
	}
	for _, rule := range d.Rules {
		row("rule", e.rule(rule))
	}
	row("reason", d.Reason)
	if d.Err != nil {
		row("error", d.Err.Error())
	}
	if d.Err != nil && e.policy.NeedsTools() && !e.annotated {
		row("hint", "--annotations says what the gateway would ask the server for")
	}
	row("needed", list(d.Required))
	for _, alternative := range d.Alternatives {
		row("or", list(alternative))
	}
	if e.id == nil {
		row("held", "no token")
	} else {
		row("held", list(e.id.Scopes)+none(len(e.id.Scopes)))
	}
	row("missing", list(d.Missing))
	if header, ok := e.header(); ok {
		fmt.Fprintf(w, "\nWWW-Authenticate: %s\n", header)
	}
}

// what is the call in a person's words.
func (e *explanation) what() string {
	on := e.call.Name
	for _, other := range []string{e.call.URI, e.call.TaskID, strings.Join(e.call.Listen, " ")} {
		if on == "" {
			on = other
		}
	}
	return strings.TrimSpace(e.call.Method + " " + printable(on))
}

// outcome is the decision and the answer that follows from it.
func (e *explanation) outcome() string {
	switch e.decision.Outcome {
	case authorize.Allow:
		return "Allowed: it is sent to the server."
	case authorize.Challenge:
		return "Refused with 403: the caller is asked for more scopes."
	case authorize.Authenticate:
		return "Refused with 401: the caller is asked for a token."
	case authorize.Deny:
		switch {
		case e.call.Method == "tools/call":
			return "Refused for good with 200: an error as the tool's result, no challenge."
		case e.call.Kind == message.Request:
			return "Refused for good with 200: a JSON-RPC error, no challenge."
		default:
			return "Refused for good with 403: no challenge."
		}
	default:
		return "Refused with 500: the policy could not be evaluated."
	}
}

// header is the challenge as the gateway sends it.
func (e *explanation) header() (string, bool) {
	switch e.decision.Outcome {
	case authorize.Challenge:
		return stile.ChallengeFor(e.policy, e.metadata, e.id, e.call, e.decision).Header(), true
	case authorize.Authenticate:
		c := challenge.Challenge{ResourceMetadata: e.metadata}
		prefix := ""
		if len(e.profiles) > 0 {
			prefix = e.profiles[0].ScopePrefix
		}
		for _, token := range e.policy.Baseline() {
			c.Scope = append(c.Scope, prefix+token)
		}
		return c.Header(), true
	default:
		return "", false
	}
}

// rule is the name of a rule and where it stands, where it was written.
func (e *explanation) rule(name string) string {
	if name == "methods" {
		return "none is needed: every caller may do this"
	}
	text := name
	if name == "default" {
		text = "none matches: the default counts"
	}
	src := e.from.src
	value, key, left := follow(src.root, nil, join(e.from.path, name))
	if left > 0 {
		return text
	}
	at := value
	if key != nil {
		at = key
	}
	line, _ := position(at)
	return fmt.Sprintf("%s, %s:%d", text, src.name, line)
}

// list is a set of scopes on one line.
func list(s scope.Set) string { return strings.Join(s, " ") }

// none stands for an empty list of scopes.
func none(n int) string {
	if n == 0 {
		return "a token without scopes"
	}
	return ""
}
