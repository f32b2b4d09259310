package main

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parseYAML parses a file with the library, keeping a bug of it from ending the
// process.
//
// In mappings in braces the library takes every ":" for the end of a key, also
// that inside a plain scalar such as notes:read, against YAML 1.2.2 §7.3.3. Such
// colons are therefore swapped for a character that nothing else uses, and put
// back in what was read. No line or column changes by that.
func parseYAML(data []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("not readable as YAML")
		}
	}()
	text := string(data)
	stand := standIn(text)
	file, err = parser.ParseBytes([]byte(swapInnerColons(text, stand)), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			ast.Walk(restorer{string(stand)}, doc.Body)
		}
	}
	return file, nil
}

// firstStandIn is what stands for a colon in nearly every file.
const firstStandIn = '\uE000'

// standIn is a private-use character that the text does not hold. There are more
// of them than a file of maxFile bytes could use up.
func standIn(text string) rune {
	stand := firstStandIn
	for strings.ContainsRune(text, stand) {
		if stand++; stand == '\uF900' {
			stand = '\U000F0000'
		}
	}
	return stand
}

// swapInnerColons swaps every ":" that belongs to a plain scalar: one followed by
// neither a space nor a bracket nor a comma, and not right behind a quote, where
// it ends a quoted key. What it swaps inside quotes and comments does no harm.
func swapInnerColons(text string, stand rune) string {
	var b strings.Builder
	for i := range len(text) {
		if text[i] == ':' && i > 0 && i+1 < len(text) &&
			!strings.ContainsRune(" \t\r\n,[]{}", rune(text[i+1])) && text[i-1] != '"' && text[i-1] != '\'' {
			b.WriteRune(stand)
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// innerColon undoes the swap in the text of an error.
func innerColon(r rune) rune {
	if r == firstStandIn {
		return ':'
	}
	return r
}

// restorer puts the colons back.
type restorer struct{ stand string }

// Visit restores one node and goes on below it.
func (r restorer) Visit(n ast.Node) ast.Visitor {
	if n == nil {
		return nil
	}
	if text, ok := n.(*ast.StringNode); ok {
		text.Value = r.restore(text.Value)
	}
	r.restoreToken(n.GetToken())
	return r
}

func (r restorer) restoreToken(tk *token.Token) {
	if tk != nil {
		tk.Value, tk.Origin = r.restore(tk.Value), r.restore(tk.Origin)
	}
}

func (r restorer) restore(s string) string { return strings.ReplaceAll(s, r.stand, ":") }

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}
