package main

import (
	"fmt"
	"strings"

	"github.com/stile-mcp/stile/propose"
)

// greetKey tells the API key of serve --api-key.
func greetKey(key string) string {
	return "API key, shown only now: " + key + "\n" +
		`  send it as "Authorization: Bearer KEY" or "X-API-Key: KEY"` + "\n"
}

// greetPeople tells what the scopes of a server are, how to sign in for the first
// time, and how clients are told of the endpoint. kept is the folder with the
// accounts, or "".
func greetPeople(p *propose.Proposal, endpoint, invitation, kept string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s offers %s.\nThese are the scopes, by its own hints:\n\n", p.Name, p.Count())
	tellGrants(&b, p)
	if invitation != "" {
		b.WriteString("\n" + invitation)
	}
	if kept != "" {
		fmt.Fprintf(&b, "\nAccounts, and what they allow, are kept in\n  %s\n", kept)
	} else {
		b.WriteString("\nAccounts, and what they allow, are forgotten when it ends.\n")
	}
	b.WriteString("\nThen add it to a client, which signs in by itself:\n\n")
	b.WriteString(tellClients(p.Name, endpoint))
	return b.String()
}

// tellClients is how clients are told of a server, for the terminal.
func tellClients(name, endpoint string) string {
	var b strings.Builder
	for _, c := range clientLines(name, endpoint) {
		fmt.Fprintf(&b, "  %s\n", c.client)
		for line := range strings.SplitSeq(c.text, "\n") {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	return b.String()
}

// clientLine is how one client is told of a server.
type clientLine struct{ client, text string }

// clientLines are what to type, or to write into a file. Each may be broken in two
// between its name and its URL; a shell and a reader of JSON put it together again.
// The name is a propose.SafeName and the URL ours, so that nothing needs quoting.
func clientLines(name, url string) []clientLine {
	return []clientLine{
		{"Claude Code", fitted("claude mcp add --transport http "+name, " ", " \\\n  ", url)},
		{"VS Code", "code --add-mcp \\\n" + fitted(`  '{"name":"`+name+`",`, "", "\n   ", `"type":"http","url":"`+url+`"}'`)},
		{"Cursor, in .cursor/mcp.json", fitted(`{"mcpServers":{"`+name+`":`, "", "\n  ", `{"url":"`+url+`"}}}`)},
		{"MCP Inspector", fitted("npx @modelcontextprotocol/inspector", " ", " \\\n  ", "--server-url "+url)},
	}
}

// fitted joins two parts on one line where the terminal has room, and else on two.
func fitted(first, joint, broken, second string) string {
	if len("    ")+len(first)+len(joint)+len(second) <= width {
		return first + joint + second
	}
	return first + broken + second
}
