package challenge

import "strings"

// scheme is spelled so and in no other way: the TypeScript SDK looks at the
// first word only, and VS Code compares its case (DES-10).
const scheme = "Bearer"

// Header returns the value of WWW-Authenticate: one Bearer challenge of
// printable ASCII, every value quoted, at most MaxHeader bytes, the same bytes
// for the same Challenge (DES-10..13, RFC 6750 §3).
//
// With an Error the order is error, scope, resource_metadata,
// error_description. Without one it is resource_metadata, scope, and no
// description: RFC 6750 §3.1 wants no word about an error where no credentials
// were sent (DES-15).
//
// Header never fails. What CheckURL, CheckScope or CheckDescription refuses is
// left out, runs of spaces in a description become one, and scopes are written
// once each. To fit MaxHeader it drops first the Optional scopes from the end,
// then the description, and only then required scopes, again from the end: what
// is left of them is a step a client can take, where none would be no step.
func (c Challenge) Header() string {
	h := header{metadata: c.ResourceMetadata, description: singleSpaced(c.Description)}
	if isErrorCode(c.Error) {
		h.code = c.Error
	}
	if CheckURL(h.metadata) != nil {
		h.metadata = ""
	}
	if CheckDescription(h.description) != nil {
		h.description = ""
	}
	var required int
	h.scopes, required = writable(c.Scope, len(c.Scope)-c.Optional)
	h.fit(required)
	return h.String()
}

// singleSpaced makes one space of several and takes off those at the ends.
func singleSpaced(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
}

// header is a challenge whose pieces are all fit to be written.
type header struct {
	code, metadata, description string
	scopes                      []string
}

// writable returns the scopes that can be written, in order and once each, and
// how many of them come from the first required of the list.
func writable(scopes []string, required int) (kept []string, of int) {
	seen := make(map[string]bool, len(scopes))
	for i, s := range scopes {
		if seen[s] || CheckScope(s) != nil {
			continue
		}
		seen[s] = true
		kept = append(kept, s)
		if i < required {
			of = len(kept)
		}
	}
	return kept, of
}

// fit shortens the header to MaxHeader (DES-09).
func (h *header) fit(required int) {
	over := h.size() - MaxHeader
	for over > 0 && len(h.scopes) > required {
		over -= h.dropScope()
	}
	if h.size() > MaxHeader {
		h.description = ""
	}
	over = h.size() - MaxHeader
	for over > 0 && len(h.scopes) > 0 {
		over -= h.dropScope()
	}
}

// dropScope takes the last scope off and returns by how much that shortens the
// header at least.
func (h *header) dropScope() int {
	last := len(h.scopes) - 1
	freed := len(h.scopes[last]) + len(" ")
	h.scopes = h.scopes[:last]
	return freed
}

// params are the parameters in the order they are written.
func (h *header) params() [4]Param {
	code, scopes := Param{"error", h.code}, Param{"scope", strings.Join(h.scopes, " ")}
	metadata, description := Param{"resource_metadata", h.metadata}, Param{"error_description", h.description}
	if h.code == "" {
		return [...]Param{metadata, scopes, {}, {}}
	}
	return [...]Param{code, scopes, metadata, description}
}

// size is the length of String in bytes.
func (h *header) size() int { return len(h.String()) }

func (h *header) String() string {
	var b strings.Builder
	b.WriteString(scheme)
	separator := " "
	for _, p := range h.params() {
		if p.Value == "" {
			continue
		}
		b.WriteString(separator)
		b.WriteString(p.Name)
		b.WriteString(`="`)
		b.WriteString(p.Value)
		b.WriteByte('"')
		separator = ", "
	}
	return b.String()
}
