package propose

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Setup is what a file says beside the proposal. Values are written so that they
// are read back as they stand here, whatever they hold.
type Setup struct {
	// PublicURL is what clients see; empty leaves it to the default.
	PublicURL string
	// Issuer is who issues tokens. Empty: the embedded authorization server does,
	// unless there is a key.
	Issuer string
	// KeySHA256 is the hash of an API key with the strongest scope, in hex; empty: no
	// such key.
	KeySHA256 string
	// URL or Command is the server.
	URL     string
	Command []string
	// Headers of a URL and Env of a command, in the notation of the file:
	// "${NAME}" stands for a variable of the environment.
	Headers, Env map[string]string
}

// writer writes YAML line by line.
type writer struct{ b strings.Builder }

func (w *writer) line(indent int, format string, args ...any) {
	w.b.WriteString(strings.Repeat(" ", indent))
	fmt.Fprintf(&w.b, format, args...)
	w.b.WriteByte('\n')
}

// remark writes a comment, folded to 80 columns.
func (w *writer) remark(indent int, text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && indent+len("# ")+len(line)+1+len(word) > 80 {
			w.line(indent, "# %s", line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	w.line(indent, "# %s", line)
}

// YAML writes a whole stile.yaml with comments. It holds no word of the server but
// quoted names and, cut short and in printable ASCII, what the server calls itself
// and the templates that were widened.
func (p *Proposal) YAML(s Setup) []byte {
	w := &writer{}
	w.remark(0, fmt.Sprintf(`Written by "stile init" for the MCP server %s: %s. Read it through before you rely on it: `+
		`what a tool does is taken from the server's own hints, and hints can be wrong. "stile check" tells mistakes, `+
		`"stile explain" what would be decided about a call, and docs/policy.md what else can be said.`, p.called(), p.From.count()))
	w.line(0, "")
	w.access(p, s)
	w.remark(0, "What people are told of a scope when they are asked to grant it.")
	w.line(0, "scopes:")
	w.line(2, "descriptions:")
	for _, g := range p.Grants {
		w.line(4, "%s: %s", Quote(g.Scope), Quote(g.Description))
	}
	w.line(0, "")
	w.line(0, "servers:")
	w.line(2, "%s:", Quote(p.Name))
	w.line(4, "path: /mcp")
	w.upstream(s)
	w.policy(p)
	return []byte(w.b.String())
}

// access writes who may come in.
func (w *writer) access(p *Proposal, s Setup) {
	w.line(0, "listen: 127.0.0.1:8080")
	if s.PublicURL != "" {
		w.remark(0, "What clients see; with the path of a server, it is what tokens must be for.")
		w.line(0, "public_url: %s", value(s.PublicURL))
	} else {
		w.remark(0, "What clients see. Without it, only those on this machine can come.")
		w.line(0, "# public_url: https://mcp.example.com")
	}
	w.line(0, "")
	if s.Issuer != "" {
		w.remark(0, "Who issues the tokens.")
		w.line(0, "issuers:")
		w.line(2, "- issuer: %s", value(s.Issuer))
	}
	if s.KeySHA256 != "" {
		w.remark(0, `The key that "stile init" printed, for callers that cannot log in: this is its hash. It opens everything.`)
		w.line(0, "api_keys:")
		w.line(2, "- name: printed-by-init")
		w.line(4, "sha256: %q", s.KeySHA256)
		w.line(4, "scopes: %s", Quote(p.Top()))
	}
	if s.Issuer == "" {
		if s.KeySHA256 == "" {
			w.remark(0, `Stile signs people in itself: "stile serve" prints the link for the first account (docs/login.md). `+
				`An authorization server of your own in its place:`)
		} else {
			w.remark(0, "An authorization server of your own:")
		}
		w.line(0, "# issuers:")
		w.line(0, "#   - issuer: https://login.example.com")
	}
	w.line(0, "")
}

// upstream writes where the server is.
func (w *writer) upstream(s Setup) {
	if len(s.Command) == 0 {
		w.line(4, "url: %s", value(s.URL))
		w.mapping("headers", s.Headers)
		return
	}
	w.line(4, "command:")
	for _, arg := range s.Command {
		w.line(6, "- %s", value(arg))
	}
	w.mapping("env", s.Env)
}

func (w *writer) mapping(key string, m map[string]string) {
	if len(m) == 0 {
		return
	}
	w.line(4, "%s:", key)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		w.line(6, "%s: %s", Quote(name), Quote(m[name]))
	}
}

// policy writes who may do what.
func (w *writer) policy(p *Proposal) {
	w.line(4, "policy:")
	w.remark(6, "What every request needs, and what a first login asks for.")
	w.line(6, "baseline: %s", Quote(p.Grants[0].Scope))
	if len(p.Grants) > 1 {
		w.remark(6, "Whoever holds the left one has the right one too.")
		w.line(6, "implies:")
	}
	for i := len(p.Grants) - 1; i > 0; i-- {
		w.line(8, "%s: %s", Quote(p.Grants[i].Scope), Quote(p.Grants[i-1].Scope))
	}
	w.remark(6, "What no rule names is refused, also what the server adds later.")
	w.line(6, "default: deny")
	for i, left := range p.LeftOut {
		if i == 0 {
			w.remark(6, "No rule can name these, so they are refused:")
		}
		if i == maxLeftOut {
			w.line(6, "#   and %d more", len(p.LeftOut)-i)
			break
		}
		w.line(6, "#   %s", left)
	}
	empty := true
	for _, g := range p.Grants {
		if g.empty() {
			continue
		}
		if empty {
			w.line(6, "rules:")
			empty = false
		}
		w.remark(8, why[g.Right])
		w.line(8, "- scopes: %s", Quote(g.Scope))
		w.entries("tools", g.Tools)
		w.entries("resources", g.Resources)
		w.entries("prompts", g.Prompts)
	}
	if empty {
		w.line(6, "rules: []")
	}
}

// maxLeftOut is how many things that were left out are listed.
const maxLeftOut = 20

// why says what a rule is made from.
var why = [...]string{
	Read:  "Only reads: tools that say so (readOnlyHint), resources and prompts.",
	Write: "Adds, without overwriting or deleting: tools that say so (destructiveHint: false).",
	Admin: "May overwrite, delete or do anything else: tools that do not say otherwise. Move a name to a rule above once you know that it is harmless.",
}

func (w *writer) entries(key string, entries []Entry) {
	if len(entries) == 0 {
		return
	}
	w.line(10, "%s:", key)
	for _, e := range entries {
		note := ""
		if e.Note != "" {
			note = " # " + e.Note
		}
		w.line(12, "- %s%s", value(e.Pattern), note)
	}
}

// called is the server as it calls itself.
func (p *Proposal) called() string {
	return strings.TrimSpace(oneLine(cmp.Or(p.From.Server, p.Name), 40) + " " + oneLine(p.From.Version, 20))
}

// Count says how much there is of what, such as "2 tools, 1 prompt".
func (p *Proposal) Count() string { return p.From.count() }

func (in *Inventory) count() string {
	return count([]int{len(in.Tools), len(in.Resources), len(in.Templates), len(in.Prompts)},
		[]string{"tool", "resource", "resource template", "prompt"})
}

func count(numbers []int, names []string) string {
	var parts []string
	for i, n := range numbers {
		switch {
		case n == 1:
			parts = append(parts, "1 "+names[i])
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", n, names[i]))
		}
	}
	if parts == nil {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// oneLine is a text of others in at most n characters of printable ASCII.
func oneLine(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() == n {
			return b.String()[:max(n-3, 0)] + "..."
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// value is a scalar whose text is not to be looked at for references: "$$" stands
// for "$" in the file.
func value(s string) string { return Quote(strings.ReplaceAll(s, "$", "$$")) }

var (
	// plain are the texts that mean themselves without quotes, but for reserved.
	plain    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*(:[a-z]+)?$`)
	isURL    = regexp.MustCompile(`^https?://[A-Za-z0-9.:/_-]*[A-Za-z0-9/]$`)
	reserved = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|file:.*|deny)$`)
)

// Quote is a text as a YAML scalar on one line, quoted where it could be taken for
// anything else. What does not print is escaped, but for private-use characters,
// which the reader of the file wants as they are.
func Quote(s string) string {
	if (plain.MatchString(s) || isURL.MatchString(s)) && !reserved.MatchString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r) || unicode.Is(unicode.Co, r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
