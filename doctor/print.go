package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Width is how many columns Text fills.
const Width = 80

// WriteText writes the report for a terminal of Width columns; colour adds ANSI
// colours. Text of the server has no control characters in it.
func (r Report) WriteText(w io.Writer, colour bool) error {
	p := &printer{colour: colour}
	p.line("%s", p.bold(r.URL))
	for _, f := range r.facts() {
		p.wrapped(fmt.Sprintf("  %-11s", f.name), f.text)
	}
	for _, f := range r.Findings {
		p.finding(f)
	}
	if len(r.Findings) == 0 {
		p.line("\nNo findings.")
	}
	p.provider(r.Provider)
	p.clients(r.Clients)
	if len(r.NotTried) > 0 {
		p.line("\n%s", p.bold("Not tried"))
	}
	for _, one := range r.NotTried {
		p.wrapped("  ", one)
	}
	p.line("\n%s", r.summary())
	_, err := io.WriteString(w, p.b.String())
	return err
}

// fact is something that was seen and is neither good nor bad.
type fact struct{ name, text string }

func (r Report) facts() []fact {
	all := []fact{{"challenge", r.Challenge}, {"issuer", strings.Join(r.Issuers, " ")}}
	if l := r.Login; l != nil {
		text := "asked for " + scopes(l.Asked) + ", granted " + scopes(l.Granted)
		if l.Granted == nil {
			text = "asked for " + scopes(l.Asked) + "; what was granted was not said"
		}
		if l.Refresh {
			text += ", with a refresh token"
		} else {
			text += ", no refresh token"
		}
		all = append(all, fact{"login", text})
	}
	all = append(all, fact{"token", r.Token})
	if s := r.StepUp; s != nil {
		text := s.Operation + ": " + s.Outcome
		if len(s.Asked) > 0 {
			text += "; asked for " + scopes(s.Asked)
		}
		all = append(all, fact{"step-up", text}, fact{"", s.Challenge})
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.text == "" })
}

func scopes(s []string) string {
	if len(s) == 0 {
		return "nothing"
	}
	return clean(strings.Join(s, " "), 300)
}

// summary counts the findings.
func (r Report) summary() string {
	n := map[Severity]int{}
	for _, f := range r.Findings {
		n[f.Severity]++
	}
	return fmt.Sprintf("%s, %s, %s.", count(n[Error], "error"), count(n[Warning], "warning"), count(n[Note], "note"))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type printer struct {
	b      strings.Builder
	colour bool
}

func (p *printer) line(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

func (p *printer) paint(code, s string) string {
	if !p.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *printer) bold(s string) string { return p.paint("1", s) }

var colours = map[Severity]string{Error: "31", Warning: "33", Note: "36"}

func (p *printer) finding(f Finding) {
	p.line("\n%s %s", p.paint(colours[f.Severity]+";1", fmt.Sprintf("%-7s", f.Severity)), p.bold(f.Title))
	p.wrapped("  seen   ", f.Seen)
	p.wrapped("  hurts  ", strings.Join(f.Hurts, "; "))
	p.wrapped("  mend   ", f.Mend)
	p.wrapped("  rule   ", strings.Join(f.Rule, ", ")+" ("+f.ID+")")
}

func (p *printer) provider(v *Provider) {
	if v == nil {
		return
	}
	p.line("\n%s", p.bold("The issuer is "+v.Name+". For MCP clients it lacks:"))
	for _, one := range v.Lacks {
		p.wrapped("  - ", one)
	}
	p.wrapped("There: ", v.Setup)
	p.yaml("In stile.yaml, so that every client gets in:", v.Config)
	p.yaml("In stile.yaml, to take its own tokens; clients have to be told a client id:", v.Direct)
}

// yaml writes lines that are to be copied; they are not wrapped.
func (p *printer) yaml(title, lines string) {
	if lines == "" {
		return
	}
	p.line("%s", title)
	for line := range strings.Lines(lines) {
		p.line("    %s", strings.TrimRight(line, "\n"))
	}
}

func (p *printer) clients(verdicts []Verdict) {
	if len(verdicts) == 0 {
		return
	}
	p.line("\n%s", p.bold("Could they finish?"))
	p.wrapped("  ", "The first login asks for "+scopes(verdicts[0].Asks)+".")
	for _, v := range verdicts {
		p.wrapped(fmt.Sprintf("  %s  %-8s ", v.Class, v.Finish), "Those that "+v.Who+".")
		p.wrapped(strings.Repeat(" ", 14), v.told(verdicts[0]))
	}
}

// told is the reason as a sentence; first is who the others are compared with.
func (v Verdict) told(first Verdict) string {
	s := strings.ToUpper(v.Why[:1]) + v.Why[1:] + "."
	if !slices.Equal(v.Asks, first.Asks) {
		s += " Their first login asks for " + scopes(v.Asks) + "."
	}
	return s
}

// wrapped writes text beside a label, in lines of Width columns. A word that is
// longer than a line is broken, after a slash or an equals sign where there is one.
func (p *printer) wrapped(label, text string) {
	if text == "" {
		return
	}
	room := Width - len(label)
	line, length := label, 0
	for _, word := range strings.Fields(text) {
		for i, part := range broken(word, room) {
			n := utf8.RuneCountInString(part)
			if i > 0 || length > 0 && length+1+n > room {
				p.line("%s", line)
				line, length = strings.Repeat(" ", len(label)), 0
			}
			if length > 0 {
				line += " "
				length++
			}
			line += part
			length += n
		}
	}
	p.line("%s", line)
}

// broken are the parts of a word of which each has room on a line; all but the last
// fill theirs.
func broken(word string, room int) []string {
	var parts []string
	runes := []rune(word)
	for len(runes) > room {
		at := room
		for i := room; i > room/2; i-- {
			if runes[i-1] == '/' || runes[i-1] == '=' {
				at = i
				break
			}
		}
		parts = append(parts, string(runes[:at]))
		runes = runes[at:]
	}
	return append(parts, string(runes))
}

// WriteMarkdown writes the report for an issue or a page.
func (r Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", markdown(r.URL), r.summary())
	for i, f := range r.facts() {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "- %s: %s\n", cmp.Or(f.name, "challenge"), code(f.text))
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n| | What is wrong | Seen | Hurts | How to mend it | Rule |\n|---|---|---|---|---|---|\n")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "| %s | %s (`%s`) | %s | %s | %s | %s |\n", f.Severity, markdown(f.Title), f.ID, code(f.Seen),
			markdown(strings.Join(f.Hurts, "; ")), markdown(f.Mend), markdown(strings.Join(f.Rule, ", ")))
	}
	r.Provider.markdown(&b)
	if len(r.Clients) > 0 {
		b.WriteString("\n| Class | Clients that | First login asks for | Could finish | Why |\n|---|---|---|---|---|\n")
	}
	for _, v := range r.Clients {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", v.Class, markdown(v.Who), code(scopes(v.Asks)), v.Finish, markdown(v.Why))
	}
	for i, one := range r.NotTried {
		if i == 0 {
			b.WriteString("\nNot tried:\n\n")
		}
		fmt.Fprintf(&b, "- %s\n", markdown(one))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (v *Provider) markdown(b *strings.Builder) {
	if v == nil {
		return
	}
	fmt.Fprintf(b, "\nThe issuer is %s. For MCP clients it lacks:\n\n", markdown(v.Name))
	for _, one := range v.Lacks {
		fmt.Fprintf(b, "- %s\n", markdown(one))
	}
	fmt.Fprintf(b, "\nThere: %s\n\nIn stile.yaml, so that every client gets in:\n\n```yaml\n%s```\n", markdown(v.Setup), v.Config)
	if v.Direct != "" {
		fmt.Fprintf(b, "\nTo take its own tokens; clients have to be told a client id:\n\n```yaml\n%s```\n", v.Direct)
	}
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "\n", " ")

func markdown(s string) string { return markdownEscapes.Replace(s) }

// code puts a stranger's text into a code span of a table.
func code(s string) string {
	return "`" + strings.NewReplacer("`", "'", "|", `\|`, "\n", " ").Replace(s) + "`"
}
