package stiletest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// openEnd says that a stream goes on.
const openEnd = "${OPEN}"

// pattern is a text with references as a regular expression. RE2 has no back
// references, so that each use of a name is a group of its own and they are
// compared afterwards.
type pattern struct {
	re     *regexp.Regexp
	groups []string // names, one a group
}

// word is what a captured value may be made of.
const word = `([^\s",]+)`

// compile makes a pattern. end is put behind it.
func (v *variables) compile(text, end string) (pattern, error) {
	var p pattern
	var b strings.Builder
	b.WriteString(`\A`)
	last := 0
	for _, m := range reference.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(regexp.QuoteMeta(text[last:m[0]]))
		last = m[1]
		name, rest := text[m[2]:m[3]], ""
		if m[4] != -1 {
			rest = text[m[4]:m[5]]
		}
		switch {
		case name == "ANY" && rest == "":
			b.WriteString(`[^\n]*?`)
		case name == "REQUEST_ID" && rest == "", name != "TOKEN" && rest == "=":
			b.WriteString(word)
			p.groups = append(p.groups, name)
		default:
			value, ok := v.values[name]
			if !ok || rest != "" {
				return p, fmt.Errorf("%s: no such variable", text[m[0]:m[1]])
			}
			b.WriteString(regexp.QuoteMeta(value))
		}
	}
	b.WriteString(regexp.QuoteMeta(text[last:]) + end)
	re, err := regexp.Compile(b.String())
	p.re = re
	return p, err
}

// match matches text and returns what was captured.
func (p pattern) match(text string) (map[string]string, error) {
	m := p.re.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("differs")
	}
	captured := map[string]string{}
	for n, name := range p.groups {
		if was, ok := captured[name]; ok && was != m[n+1] {
			return nil, fmt.Errorf("${%s} is %q and %q", name, was, m[n+1])
		}
		captured[name] = m[n+1]
	}
	return captured, nil
}

// atOpenEnd reports whether body is all that a section with an open end expects.
func (v *variables) atOpenEnd(section, body string) bool {
	want, ok := strings.CutSuffix(parseSection(section).body, openEnd)
	if !ok {
		return false
	}
	p, err := v.compile(want, `\z`)
	return err == nil && p.re.MatchString(body)
}

// unlisted are the headers of an answer that a transcript leaves out: one says
// when, the other what the body says.
var unlisted = []string{"Date", "Content-Length"}

// section is an answer as it stands in a transcript.
func (a flowAnswer) section() flowSection {
	header := a.header.Clone()
	for _, name := range unlisted {
		header.Del(name)
	}
	s := flowSection{first: a.status, header: headerLines(header), body: a.body}
	if a.open {
		s.body += openEnd
	}
	return s
}

// matchResponse says how an answer differs from a section, and nothing where it
// does not. What the section captures is kept.
func (v *variables) matchResponse(expected string, got flowAnswer) string {
	want, is := parseSection(expected), got.section()
	for _, name := range want.absent {
		if values := got.header.Values(name); len(values) > 0 {
			return fmt.Sprintf("%s was expected to be absent, but is %q", name, values)
		}
	}
	want.absent = nil
	var open bool
	if want.body, open = strings.CutSuffix(want.body, openEnd); open != got.open {
		return fmt.Sprintf("whether the stream goes on: %t was expected, it is %t, after %q", open, got.open, got.body)
	}
	is.body = got.body
	return v.compare(want.String(), is.String())
}

// compare matches a text and keeps what it captures.
func (v *variables) compare(want, is string) string {
	p, err := v.compile(want, `\z`)
	if err != nil {
		return err.Error()
	}
	captured, err := p.match(is)
	if err != nil {
		return fmt.Sprintf("%v\n%s", err, v.differences(want, is))
	}
	for name, value := range captured {
		if name != "REQUEST_ID" {
			v.values[name] = value
		}
	}
	return ""
}

// differences sets two texts side by side, line by line: "-" was expected, "+"
// came.
func (v *variables) differences(want, is string) string {
	var b strings.Builder
	wantLines, isLines := strings.Split(want, "\n"), strings.Split(is, "\n")
	for n := range max(len(wantLines), len(isLines)) {
		w, i := lineAt(wantLines, n), lineAt(isLines, n)
		if p, err := v.compile(w, `\z`); err == nil && p.re.MatchString(i) && n < len(wantLines) && n < len(isLines) {
			fmt.Fprintf(&b, "  %s\n", i)
			continue
		}
		if n < len(wantLines) {
			fmt.Fprintf(&b, "- %s\n", w)
		}
		if n < len(isLines) {
			fmt.Fprintf(&b, "+ %s\n", i)
		}
	}
	return b.String()
}

func lineAt(lines []string, n int) string {
	if n < len(lines) {
		return lines[n]
	}
	return ""
}

// describe writes the section that an answer matches: with ${REQUEST_ID} where
// X-Request-Id stands, the session id captured, and the headers that the old
// section had as absent, where they still are.
func (v *variables) describe(old string, got flowAnswer) string {
	s := got.section()
	for _, name := range parseSection(old).absent {
		if len(got.header.Values(name)) == 0 {
			s.absent = append(s.absent, name)
		}
	}
	text := v.restore(s.String())
	if id := got.header.Get("X-Request-Id"); id != "" {
		text = strings.ReplaceAll(text, id, "${REQUEST_ID}")
	}
	if id := got.header.Get("Mcp-Session-Id"); id != "" && v.values["SESSION"] != id {
		text = strings.ReplaceAll(text, id, "${SESSION=}")
		v.values["SESSION"] = id
	}
	return text
}

// matchUpstream says how a request that reached the upstream differs from a
// section.
func (v *variables) matchUpstream(expected string, got RecordedRequest) string {
	want := parseSection(expected)
	for _, name := range want.absent {
		if values := got.Header.Values(name); len(values) > 0 {
			return fmt.Sprintf("%s was expected to be absent, but is %q", name, values)
		}
	}
	is := flowSection{first: got.Method + " " + got.Path, body: string(got.Body)}
	var wanted []string
	for n, line := range want.header {
		name, value, _ := strings.Cut(line, ":")
		name = http.CanonicalHeaderKey(strings.TrimSpace(name))
		want.header[n] = name + ": " + strings.TrimSpace(value)
		if slices.Contains(wanted, name) {
			continue
		}
		wanted = append(wanted, name)
		for _, v := range got.Header.Values(name) {
			is.header = append(is.header, name+": "+v)
		}
	}
	want.absent = nil
	return v.compare(want.String(), is.String())
}
