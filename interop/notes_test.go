package interop_test

import (
	"context"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// notesServer is a small MCP server made with the go-sdk, which wants a stateful
// handler for the 2025 revisions and a stateless one for 2026-07-28.
func notesServer(era string) http.Handler {
	server := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1"}, nil)
	for _, name := range []string{"list_notes", "create_note"} {
		mcp.AddTool(server, &mcp.Tool{Name: name},
			func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name}}}, nil, nil
			})
	}
	server.AddResource(&mcp.Resource{URI: "note://welcome", Name: "welcome"}, readNote)
	server.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "note://item/{id}", Name: "item"}, readNote)
	server.AddPrompt(&mcp.Prompt{Name: "summarise"},
		func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{
				{Role: "user", Content: &mcp.TextContent{Text: "Summarise the notes."}},
			}}, nil
		})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: era == era2026})
}

func readNote(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "a note"}}}, nil
}
