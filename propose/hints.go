package propose

import (
	"strings"
	"unicode"
)

// Words that tools like to begin with. They are remarked upon and decide nothing.
var (
	readingWords  = []string{"get", "list", "read", "search", "find", "show", "fetch", "query", "describe", "count", "view", "lookup"}
	changingWords = []string{"delete", "remove", "drop", "destroy", "purge", "write", "update", "set", "create", "add", "edit",
		"move", "insert", "send", "execute", "exec", "run", "kill", "reset", "replace", "put", "post"}
)

// note is what whoever reads the file should look at, or "".
func (t *Tool) note() string {
	var notes []string
	word := firstWord(t.Name)
	says := t.ReadOnly != nil || t.Destructive != nil
	switch {
	case !says && contains(readingWords, word):
		notes = append(notes, "gives no hint; by its name it may only read")
	case !says:
		notes = append(notes, "gives no hint")
	case said(t.ReadOnly, true) && said(t.Destructive, true):
		notes = append(notes, "says it only reads, and that it destroys: look")
	case said(t.ReadOnly, true) && contains(changingWords, word):
		notes = append(notes, "says it only reads, and its name does not: look")
	case said(t.Destructive, false) && !said(t.ReadOnly, true) && (word == "delete" || word == "remove" || word == "drop"):
		notes = append(notes, "says it destroys nothing, and its name does: look")
	}
	if said(t.OpenWorld, true) {
		notes = append(notes, "reaches beyond the server")
	}
	if t.right() == Admin && said(t.Idempotent, true) {
		notes = append(notes, "may be repeated")
	}
	return strings.Join(notes, "; ")
}

// firstWord is the verb that a name most likely begins with: get of get_note,
// getNote, get-note and notes.get_note is not searched for beyond the first.
func firstWord(name string) string {
	for i, r := range name {
		if !unicode.IsLetter(r) || i > 0 && unicode.IsUpper(r) {
			return strings.ToLower(name[:i])
		}
	}
	return strings.ToLower(name)
}

func contains(words []string, word string) bool {
	for _, one := range words {
		if one == word {
			return true
		}
	}
	return false
}
