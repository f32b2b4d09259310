package pages

import (
	"strings"
	"unicode"
)

// Lengths of strangers' text, in characters.
const (
	maxName     = 80
	maxSentence = 300
)

// maxMarks is how many combining marks one letter may carry; scripts need two.
const maxMarks = 2

// Name makes the name that a stranger gave itself fit to be shown: on one line, of
// bounded length, without control characters and without those that nobody sees
// or that change the direction of what stands beside them (Unicode Cc, Cf and the
// like). "" becomes "A program without a name".
func Name(s string) string {
	if s = plain(s, maxName); s == "" {
		return "A program without a name"
	}
	return s
}

// Sentence does the same for longer text. "" stays.
func Sentence(s string) string { return plain(s, maxSentence) }

func plain(s string, most int) string {
	var b strings.Builder
	length, marks, space := 0, 0, false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = length > 0
			continue
		case r == unicode.ReplacementChar, !unicode.IsGraphic(r), invisible(r):
			continue
		case unicode.Is(unicode.M, r):
			if marks++; marks > maxMarks || length == 0 || space {
				continue
			}
		default:
			marks = 0
		}
		if space {
			length++
		}
		if length >= most {
			return b.String() + "…"
		}
		if space {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
		length, space = length+1, false
	}
	return b.String()
}

// invisible are graphic characters that leave no trace: fillers, and marks that
// select a variant.
func invisible(r rune) bool {
	return unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) || r == '\u2800'
}
