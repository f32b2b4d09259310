package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// source is one YAML file as it was read.
type source struct {
	name  string // as the user wrote it
	lines []string
	root  ast.Node // nil when the file is empty or could not be parsed

	// secrets are the places of the file that are never shown.
	secrets []place
	// taken are the values that came from the environment or other files.
	taken []taken
	// broken are the paths already complained about, so that what follows from
	// it is not told as well.
	broken map[string]bool
}

// place is a part of a line, or all of it: from column up to end, counted in
// characters from 1; end 0 is the end of the line.
type place struct{ line, column, end int }

// taken is a value that came from elsewhere, and how the file names it.
type taken struct{ value, reference string }

// maxFile is the largest file read, in bytes.
const maxFile = 1 << 20

// dir is the folder that relative paths in the file start from.
func (s *source) dir() string { return filepath.Dir(s.name) }

// within makes a path of the file one of this process.
func (s *source) within(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.dir(), path)
}

// parse reads a file into nodes. What it cannot read is one mistake.
func parse(name string, data []byte) (*source, mistakes) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	s := &source{name: name, broken: map[string]bool{}}
	for line := range strings.SplitSeq(string(data), "\n") {
		s.lines = append(s.lines, strings.TrimSuffix(line, "\r"))
	}
	if len(data) > maxFile {
		return s, s.one(1, 1, fmt.Sprintf("the file is too large: expected at most %d bytes", maxFile))
	}
	if at := invalidUTF8(data); at >= 0 {
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		return s, s.one(line, 1, "expected UTF-8 text on this line")
	}
	file, err := parseYAML(data)
	if err != nil {
		line, column, text := syntaxError(err)
		s.hideLikelySecrets()
		return s, s.one(line, column, text)
	}
	return s, s.takeDocument(file)
}

// takeDocument keeps the only document of a file.
func (s *source) takeDocument(file *ast.File) mistakes {
	var found mistakes
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if s.root != nil || doc.Body.Type() == ast.DirectiveType {
			line, column := position(doc.Body)
			found = append(found, s.one(line, column, "expected a single YAML document without directives")...)
			continue
		}
		s.root = doc.Body
	}
	if s.root == nil && found == nil {
		return s.one(1, 1, "the file is empty")
	}
	return found
}

// syntaxError is the place of a parser's error and what it says.
func syntaxError(err error) (line, column int, text string) {
	var where yaml.Error
	if !errors.As(err, &where) || where.GetToken() == nil || where.GetToken().Position == nil {
		return 1, 1, "not readable as YAML"
	}
	at := where.GetToken().Position
	return at.Line, at.Column, "not readable as YAML: " + strings.Map(innerColon, where.GetMessage())
}

// one is a mistake without a field or a value.
func (s *source) one(line, column int, want string) mistakes {
	m := s.at(line, column)
	m.Want = want
	return mistakes{m}
}

// at makes a mistake whose place is inside the file whatever it is asked for.
func (s *source) at(line, column int) mistake {
	line = min(max(line, 1), len(s.lines))
	column = min(max(column, 1), utf8.RuneCountInString(s.lines[line-1])+1)
	return mistake{src: s, line: line, column: column}
}

// maxLine is the most of a line that is shown, in characters.
const maxLine = 70

// shown is a line as it may be shown, and where the column went.
func (s *source) shown(line, column int) (string, int) {
	text := []rune(s.lines[line-1])
	for _, secret := range s.secretsOn(line) {
		from, to := min(secret.column-1, len(text)), len(text)
		if secret.end > 0 {
			to = min(secret.end-1, len(text))
		}
		text = append(append(text[:from:from], []rune("***")...), text[to:]...)
		if column > to {
			column += len("***") - (to - from)
		} else if column > from+1 {
			column = from + 1
		}
	}
	if len(text) <= maxLine {
		return printable(string(text)), column
	}
	from := 0
	if column > maxLine-20 {
		from = min(column-20, len(text)-maxLine)
	}
	cut := text[from:min(from+maxLine, len(text))]
	return printable(string(cut)), column - from
}

// secretsOn are the places of a line that are not shown, the last one first.
func (s *source) secretsOn(line int) []place {
	var on []place
	for _, secret := range s.secrets {
		if secret.line == line {
			on = append(on, secret)
		}
	}
	for _, at := range userInfo.FindAllStringSubmatchIndex(s.lines[line-1], -1) {
		text := s.lines[line-1]
		on = append(on, place{line, utf8.RuneCountInString(text[:at[2]]) + 1, utf8.RuneCountInString(text[:at[3]]) + 1})
	}
	slices.SortFunc(on, func(a, b place) int { return cmp.Compare(b.column, a.column) })
	return on
}

// userInfo is the user and password of a URL.
var userInfo = regexp.MustCompile(`://([^/@\s]+)@`)

// minRedacted is the shortest secret looked for inside other text, in bytes: a
// shorter one would be found in words.
const minRedacted = 6

// redact puts the reference in place of what it stood for.
func (s *source) redact(text string) string {
	for _, t := range s.taken {
		if len(t.value) >= minRedacted || text == t.value {
			text = strings.ReplaceAll(text, t.value, t.reference)
		}
	}
	return text
}

// hide marks a scalar as a secret, on every line it covers.
func (s *source) hide(n ast.Node) {
	tk := n.GetToken()
	if literal, ok := n.(*ast.LiteralNode); ok {
		tk = literal.Value.GetToken()
	}
	line, column := position(n)
	if line < 1 || line > len(s.lines) {
		return
	}
	text := strings.TrimSpace(tk.Origin)
	covered := strings.Count(text, "\n")
	if _, ok := n.(*ast.LiteralNode); ok {
		covered++
	}
	if covered == 0 {
		s.secrets = append(s.secrets, place{line, column, s.endOfScalar(tk, line, column)})
		return
	}
	s.secrets = append(s.secrets, place{line: line, column: column})
	for i := 1; i <= covered+1 && line+i <= len(s.lines); i++ {
		s.secrets = append(s.secrets, place{line: line + i, column: 1})
	}
}

// endOfScalar is the column behind a scalar that ends on its own line.
func (s *source) endOfScalar(tk *token.Token, line, column int) int {
	rest := []rune(s.lines[line-1])
	rest = rest[min(column-1, len(rest)):]
	length := utf8.RuneCountInString(strings.TrimSpace(tk.Origin))
	return column + min(length, len(rest))
}

// secretName matches the names of keys whose values are kept from sight even
// where the file could not be understood.
var secretName = regexp.MustCompile(`(?i)secret|token|passw|sha|key|auth|bearer|credential`)

// likelySecret matches a line up to the value of such a key.
var likelySecret = regexp.MustCompile(`(?i)(secret|token|passw|sha|key|auth|bearer|credential)[\w-]*["']?\s*[:=]\s*\S`)

// hideLikelySecrets hides the rest of every line that seems to hold a secret.
func (s *source) hideLikelySecrets() {
	for i, line := range s.lines {
		if at := likelySecret.FindStringIndex(line); at != nil {
			s.secrets = append(s.secrets, place{line: i + 1, column: utf8.RuneCountInString(line[:at[1]-1]) + 1})
		}
	}
}

// position is the line and column of what a person sees as the beginning of a
// node, both from 1.
func position(n ast.Node) (line, column int) {
	switch v := n.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return position(v.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return position(v.Key)
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return 1, 1
	}
	return tk.Position.Line, tk.Position.Column
}
