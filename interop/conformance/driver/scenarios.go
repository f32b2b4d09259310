package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// action is what the client does once it is connected.
type action func(ctx context.Context, s *mcp.ClientSession, g given) error

// scenarios are those of the suite that a client can be driven through.
var scenarios = map[string]action{
	"initialize":                          list,
	"tools_call":                          call("add_numbers", map[string]any{"a": 5, "b": 3}),
	"request-metadata":                    list,
	"elicitation-sep1034-client-defaults": call("test_client_elicitation_defaults", nil),
	"sse-retry":                           call("test_reconnection", nil),
	"json-schema-ref-no-deref":            list,
	"json-schema-2020-12-preservation":    echoSchema,
	"sep-2322-client-request-state":       multiRound,
	"http-standard-headers":               oneOfEach,
	"http-custom-headers":                 toldCalls,
	"http-invalid-tool-headers":           everyTool,
	"sep-2640-client-no-prefetch":         skills,

	"auth/2025-03-26-oauth-endpoint-fallback":   protected,
	"auth/2025-03-26-oauth-metadata-backcompat": protected,
	"auth/authorization-server-migration":       protected,
	"auth/basic-cimd":                           protected,
	"auth/client-credentials-basic":             protected,
	"auth/client-credentials-jwt":               protected,
	"auth/dpop":                                 protected,
	"auth/dpop-nonce":                           protected,
	"auth/enterprise-managed-authorization":     protected,
	"auth/iss-normalized":                       protected,
	"auth/iss-not-advertised":                   protected,
	"auth/iss-supported":                        protected,
	"auth/iss-supported-missing":                protected,
	"auth/iss-unexpected":                       protected,
	"auth/iss-wrong-issuer":                     protected,
	"auth/metadata-default":                     protected,
	"auth/metadata-issuer-mismatch":             protected,
	"auth/metadata-var1":                        protected,
	"auth/metadata-var2":                        protected,
	"auth/metadata-var3":                        protected,
	"auth/offline-access-not-supported":         protected,
	"auth/offline-access-scope":                 protected,
	"auth/pre-registration":                     protected,
	"auth/resource-mismatch":                    protected,
	"auth/scope-from-scopes-supported":          protected,
	"auth/scope-from-www-authenticate":          protected,
	"auth/scope-omitted-when-undefined":         protected,
	"auth/scope-retry-limit":                    protected,
	"auth/scope-step-up":                        protected,
	"auth/token-endpoint-auth-basic":            protected,
	"auth/token-endpoint-auth-none":             protected,
	"auth/token-endpoint-auth-post":             protected,
	"auth/wif-jwt-bearer":                       protected,
}

// clientOptions answer every question with yes, and leave its fields empty: a client
// fills in the defaults.
func clientOptions() *mcp.ClientOptions {
	return &mcp.ClientOptions{ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		content := map[string]any{}
		if schema, ok := r.Params.RequestedSchema.(map[string]any); ok {
			if fields, _ := schema["properties"].(map[string]any); fields["confirmed"] != nil {
				content["confirmed"] = true
			}
		}
		return &mcp.ElicitResult{Action: "accept", Content: content}, nil
	}}
}

func list(ctx context.Context, s *mcp.ClientSession, _ given) error {
	_, err := s.ListTools(ctx, nil)
	return err
}

// protected is what all scenarios with an authorization server want.
func protected(ctx context.Context, s *mcp.ClientSession, g given) error {
	if err := list(ctx, s, g); err != nil {
		return err
	}
	return callTool(ctx, s, "test-tool", nil)
}

func call(tool string, arguments map[string]any) action {
	return func(ctx context.Context, s *mcp.ClientSession, _ given) error {
		found, err := s.ListTools(ctx, nil)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(found.Tools, func(t *mcp.Tool) bool { return t.Name == tool }) {
			return fmt.Errorf("the server has no tool %s", tool)
		}
		return callTool(ctx, s, tool, arguments)
	}
}

func callTool(ctx context.Context, s *mcp.ClientSession, tool string, arguments map[string]any) error {
	if arguments == nil {
		arguments = map[string]any{}
	}
	result, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err == nil && result.IsError {
		return fmt.Errorf("%s failed: %v", tool, result.Content)
	}
	return err
}

// echoSchema sends a tool's schema back as it came.
func echoSchema(ctx context.Context, s *mcp.ClientSession, _ given) error {
	found, err := s.ListTools(ctx, nil)
	if err != nil {
		return err
	}
	for _, tool := range found.Tools {
		if tool.Name == "json_schema_2020_12_tool" {
			return callTool(ctx, s, "json_schema_echo", map[string]any{"schema": tool.InputSchema})
		}
	}
	return fmt.Errorf("no tool with a schema among %d", len(found.Tools))
}

func multiRound(ctx context.Context, s *mcp.ClientSession, _ given) error {
	for _, tool := range []string{"test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_unrelated", "test_mrtr_no_result_type"} {
		if err := callTool(ctx, s, tool, nil); err != nil {
			return err
		}
	}
	return nil
}

// oneOfEach uses a tool, a resource and a prompt.
func oneOfEach(ctx context.Context, s *mcp.ClientSession, _ given) error {
	tools, err := s.ListTools(ctx, nil)
	if err != nil {
		return err
	}
	if err := callTool(ctx, s, tools.Tools[0].Name, nil); err != nil {
		return err
	}
	resources, err := s.ListResources(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: resources.Resources[0].URI}); err != nil {
		return err
	}
	prompts, err := s.ListPrompts(ctx, nil)
	if err != nil {
		return err
	}
	_, err = s.GetPrompt(ctx, &mcp.GetPromptParams{Name: prompts.Prompts[0].Name})
	return err
}

func toldCalls(ctx context.Context, s *mcp.ClientSession, g given) error {
	if err := list(ctx, s, g); err != nil {
		return err
	}
	for _, one := range g.ToolCalls {
		if err := callTool(ctx, s, one.Name, one.Arguments); err != nil {
			return err
		}
	}
	return nil
}

// everyTool calls all tools that are left after the client has read the list.
func everyTool(ctx context.Context, s *mcp.ClientSession, _ given) error {
	found, err := s.ListTools(ctx, nil)
	if err != nil {
		return err
	}
	for _, tool := range found.Tools {
		if err := callTool(ctx, s, tool.Name, map[string]any{"region": "us-west1"}); err != nil {
			return err
		}
	}
	return nil
}

// listSkills is a method of an extension that neither go-sdk nor Stile knows.
const listSkills = "skills/list"

type (
	skillsParams struct{ mcp.ParamsBase }
	skillsResult struct {
		mcp.ResultBase
		Skills []any `json:"skills"`
	}
)

func skills(ctx context.Context, s *mcp.ClientSession, _ given) error {
	found, err := mcp.CallCustomMethod[*skillsParams, *skillsResult](ctx, s, listSkills, &skillsParams{})
	if err == nil && len(found.Skills) != 1 {
		return fmt.Errorf("%d skills, want 1", len(found.Skills))
	}
	return err
}
