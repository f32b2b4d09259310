package doctor

import (
	"fmt"
	"io"
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
	if r.Challenge != "" {
		p.wrapped("  challenge  ", r.Challenge)
	}
	if len(r.Issuers) > 0 {
		p.wrapped("  issuer     ", strings.Join(r.Issuers, " "))
	}
	if r.Provider != "" {
		p.wrapped("  provider   ", r.Provider)
	}
	for _, f := range r.Findings {
		p.finding(f)
	}
	if len(r.Findings) == 0 {
		p.line("\nNothing is wrong.")
	}
	p.clients(r.Clients)
	p.line("\n%s", r.summary())
	_, err := io.WriteString(w, p.b.String())
	return err
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
	p.line("\n%s %s  %s", p.paint(colours[f.Severity]+";1", fmt.Sprintf("%-7s", f.Severity)), p.bold(f.Title), p.paint("2", f.ID))
	p.wrapped("  seen   ", f.Seen)
	p.wrapped("  hurts  ", strings.Join(f.Hurts, "; "))
	p.wrapped("  mend   ", f.Mend)
	p.wrapped("  rule   ", strings.Join(f.Rule, ", "))
}

func (p *printer) clients(verdicts []Verdict) {
	if len(verdicts) == 0 {
		return
	}
	p.line("\n%s", p.bold("Could they finish?"))
	for _, v := range verdicts {
		p.wrapped(fmt.Sprintf("  %s  %-8s ", v.Class, v.Finish), v.Who+": "+v.Why)
	}
}

// wrapped writes text beside a label, in lines of Width columns. A word that is
// longer than a line is broken.
func (p *printer) wrapped(label, text string) {
	if text == "" {
		return
	}
	room := Width - len(label)
	line, length := label, 0
	for _, word := range strings.Fields(text) {
		for {
			n := utf8.RuneCountInString(word)
			if length > 0 && length+1+n > room {
				p.line("%s", line)
				line, length = strings.Repeat(" ", len(label)), 0
			}
			if length > 0 {
				line += " "
				length++
			}
			if n <= room {
				line += word
				length += n
				break
			}
			runes := []rune(word)
			line, length = line+string(runes[:room]), room
			word = string(runes[room:])
		}
	}
	p.line("%s", line)
}

// WriteMarkdown writes the report for an issue or a page.
func (r Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", markdown(r.URL), r.summary())
	if r.Challenge != "" {
		fmt.Fprintf(&b, "\nChallenge: %s\n", code(r.Challenge))
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n| | What is wrong | Seen | Hurts | How to mend it | Rule |\n|---|---|---|---|---|---|\n")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "| %s | %s (`%s`) | %s | %s | %s | %s |\n", f.Severity, markdown(f.Title), f.ID, code(f.Seen),
			markdown(strings.Join(f.Hurts, "; ")), markdown(f.Mend), markdown(strings.Join(f.Rule, ", ")))
	}
	if len(r.Clients) > 0 {
		b.WriteString("\n| Class | Clients | Could finish | Why |\n|---|---|---|---|\n")
	}
	for _, v := range r.Clients {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", v.Class, markdown(v.Who), v.Finish, markdown(v.Why))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "\n", " ")

func markdown(s string) string { return markdownEscapes.Replace(s) }

// code puts a stranger's text into a code span of a table.
func code(s string) string {
	return "`" + strings.NewReplacer("`", "'", "|", `\|`, "\n", " ").Replace(s) + "`"
}
