package stiletest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// newServer registers what a Notes server offers.
func (n *Notes) newServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1.0.0"}, &mcp.ServerOptions{
		Instructions: "Keeps short notes.",
		Logger:       n.options.Logger,
		CompletionHandler: func(_ context.Context, req *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return n.complete(req.Params.Argument.Value), nil
		},
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	s.AddReceivingMiddleware(n.count)
	n.addReaders(s)
	n.addWriters(s)
	s.AddResource(&mcp.Resource{
		URI: "note://index", Name: "index", Description: "The titles of all notes", MIMEType: "text/plain",
	}, n.readResource)
	s.AddResourceTemplate(&mcp.ResourceTemplate{
		URITemplate: "note://{id}", Name: "note", Description: "One note", MIMEType: "text/plain",
	}, n.readResource)
	s.AddPrompt(&mcp.Prompt{
		Name: "summarise", Description: "Asks for a summary of one note",
		Arguments: []*mcp.PromptArgument{{Name: "id", Description: "Which note", Required: true}},
	}, n.summarise)
	return s
}

// Arguments of the tools.
type (
	noArgs struct{}
	idArgs struct {
		ID string `json:"id" jsonschema:"which note"`
	}
	createArgs struct {
		Title string `json:"title" jsonschema:"the title"`
		Text  string `json:"text,omitempty" jsonschema:"the text"`
	}
	deleteArgs struct {
		ID        string `json:"id" jsonschema:"which note"`
		Permanent bool   `json:"permanent,omitempty" jsonschema:"do not keep it in the bin"`
	}
	slowArgs struct {
		Steps int `json:"steps,omitempty" jsonschema:"how many steps, 3 unless set"`
	}
)

// tool describes one tool. Nothing here reaches out of the server's own world.
func tool(name, description string, readOnly, destructive bool) *mcp.Tool {
	open := false
	a := &mcp.ToolAnnotations{ReadOnlyHint: readOnly, OpenWorldHint: &open}
	if !readOnly {
		a.DestructiveHint = &destructive
	}
	return &mcp.Tool{Name: name, Description: description, Annotations: a}
}

// addReaders adds the tools that change nothing.
func (n *Notes) addReaders(s *mcp.Server) {
	mcp.AddTool(s, tool("list_notes", "Lists the notes", true, false),
		func(context.Context, *mcp.CallToolRequest, noArgs) (*mcp.CallToolResult, any, error) {
			return text(n.index()), nil, nil
		})
	mcp.AddTool(s, tool("get_note", "Shows one note", true, false),
		func(_ context.Context, _ *mcp.CallToolRequest, in idArgs) (*mcp.CallToolResult, any, error) {
			note, ok := n.note(in.ID)
			if !ok {
				return nil, nil, fmt.Errorf("no note %q", in.ID)
			}
			return text(note.Title + "\n" + note.Text), nil, nil
		})
	mcp.AddTool(s, tool("export_notes", "Gives all notes as JSON", true, false),
		func(context.Context, *mcp.CallToolRequest, noArgs) (*mcp.CallToolResult, any, error) {
			out, err := json.Marshal(n.All())
			return text(string(out)), nil, err
		})
	mcp.AddTool(s, tool("ping", "Answers pong", true, false),
		func(context.Context, *mcp.CallToolRequest, noArgs) (*mcp.CallToolResult, any, error) {
			return text("pong"), nil, nil
		})
	mcp.AddTool(s, tool("slow", "Works in steps and tells of its progress", true, false), n.slow)
}

// addWriters adds the tools that change something.
func (n *Notes) addWriters(s *mcp.Server) {
	mcp.AddTool(s, tool("create_note", "Writes a note", false, false),
		func(_ context.Context, _ *mcp.CallToolRequest, in createArgs) (*mcp.CallToolResult, any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.last++
			id := strconv.Itoa(n.last)
			n.notes[id] = Note{id, in.Title, in.Text}
			return text("created " + id), nil, nil
		})
	mcp.AddTool(s, tool("delete_note", "Deletes a note", false, true),
		func(_ context.Context, _ *mcp.CallToolRequest, in deleteArgs) (*mcp.CallToolResult, any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if _, ok := n.notes[in.ID]; !ok {
				return nil, nil, fmt.Errorf("no note %q", in.ID)
			}
			delete(n.notes, in.ID)
			if in.Permanent {
				return text("deleted " + in.ID + " for good"), nil, nil
			}
			return text("deleted " + in.ID), nil, nil
		})
	mcp.AddTool(s, tool("drop_everything", "Deletes all notes", false, true),
		func(context.Context, *mcp.CallToolRequest, noArgs) (*mcp.CallToolResult, any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			clear(n.notes)
			return text("everything is gone"), nil, nil
		})
}

// slow tells of its progress after each step.
func (n *Notes) slow(ctx context.Context, req *mcp.CallToolRequest, in slowArgs) (*mcp.CallToolResult, any, error) {
	steps := in.Steps
	if steps <= 0 {
		steps = 3
	}
	token := req.Params.GetProgressToken()
	for step := 1; step <= steps; step++ {
		if token != nil {
			if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: token, Progress: float64(step), Total: float64(steps),
			}); err != nil {
				return nil, nil, err
			}
		}
		if n.options.OnSlow == nil {
			continue
		}
		if err := n.options.OnSlow(ctx, step); err != nil {
			return nil, nil, err
		}
	}
	return text(fmt.Sprintf("done in %d steps", steps)), nil, nil
}

// readResource serves note://index and note://{id}.
func (n *Notes) readResource(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	uri := req.Params.URI
	id := strings.TrimPrefix(uri, "note://")
	body := n.index()
	if id != "index" {
		note, ok := n.note(id)
		if !ok {
			return nil, mcp.ResourceNotFoundError(uri)
		}
		body = note.Title + "\n" + note.Text
	}
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: "text/plain", Text: body}}}, nil
}

// summarise is the prompt.
func (n *Notes) summarise(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	note, ok := n.note(req.Params.Arguments["id"])
	if !ok {
		return nil, fmt.Errorf("no note %q", req.Params.Arguments["id"])
	}
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{
		Role: "user", Content: &mcp.TextContent{Text: "Summarise this note: " + note.Text},
	}}}, nil
}

// complete proposes the ids that begin with prefix.
func (n *Notes) complete(prefix string) *mcp.CompleteResult {
	values := []string{}
	for _, note := range n.All() {
		if strings.HasPrefix(note.ID, prefix) {
			values = append(values, note.ID)
		}
	}
	return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: values, Total: len(values)}}
}

// index lists ids and titles, a line each.
func (n *Notes) index() string {
	var b strings.Builder
	for _, note := range n.All() {
		fmt.Fprintf(&b, "%s %s\n", note.ID, note.Title)
	}
	return b.String()
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}
