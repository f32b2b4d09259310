package authorize

import (
	"fmt"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/message"
)

// listKind is what one list method lists.
type listKind struct {
	method string // of the list
	member string // of the result that holds the entries
	key    string // of an entry, that names it
	use    string // the method that acts on an entry
}

var listKinds = []listKind{
	{"tools/list", "tools", "name", "tools/call"},
	{"resources/list", "resources", "uri", "resources/read"},
	{"resources/templates/list", "resourceTemplates", "uriTemplate", "resources/read"},
	{"prompts/list", "prompts", "name", "prompts/get"},
}

// ListMethod returns the list method that a JSON-RPC response answers, told by
// the list in its result, or "" when it is no answer to one.
func ListMethod(response []byte) string {
	result, err := resultOf(response)
	if err != nil || result == nil {
		return ""
	}
	for _, kind := range listKinds {
		if at, found, err := lookup(result.members, kind.member); err == nil && found && at.of(result.raw)[0] == '[' {
			return kind.method
		}
	}
	return ""
}

// result is the result of a response and where it stands in it.
type result struct {
	raw     []byte
	start   int
	members []jsonMember
}

// resultOf reads a response; nil when it has no result that is an object.
func resultOf(response []byte) (*result, error) {
	members, err := membersOf(response)
	if err != nil {
		return nil, err
	}
	at, found, err := lookup(members, "result")
	if err != nil || !found || response[at.start] != '{' {
		return nil, err
	}
	r := &result{raw: at.of(response), start: at.start}
	r.members, err = membersOf(r.raw)
	return r, err
}

// RewriteList applies the policy to one JSON-RPC response to a list method and
// returns what to send instead: the same slice when nothing changes. Entries that
// the identity can never be allowed are left out and, with `list: granted`, those
// it is not allowed now (DES-31); tools say which scopes they need (DES-33); and on
// 2026-07-28 a changed list is private (DES-32). What stays keeps its bytes and
// its order. An entry without a name is left out. A response without a list, such
// as an error, is returned as it is.
//
// An error means that the answer could not be read without doubt and must not be
// sent: invalid JSON, duplicate names, or a list under a name that differs from
// the known one only in case.
func (p *Policy) RewriteList(id *authenticate.Identity, call *message.Call, response []byte) ([]byte, error) {
	kind := kindOf(call)
	if kind == nil {
		return nil, errNoCall
	}
	r, err := resultOf(response)
	if err != nil {
		return nil, fmt.Errorf("answer to %s: %w", kind.method, err)
	}
	if r == nil {
		return response, nil
	}
	at, found, err := lookup(r.members, kind.member)
	switch {
	case err != nil:
		return nil, fmt.Errorf("answer to %s: %w", kind.method, err)
	case !found || r.raw[at.start] == 'n':
		return response, nil
	case r.raw[at.start] != '[':
		return nil, fmt.Errorf("answer to %s: %q is not an array", kind.method, kind.member)
	}
	entries, changed, err := p.entries(id, kind, at.of(r.raw))
	if err != nil {
		return nil, fmt.Errorf("answer to %s: %w", kind.method, err)
	}
	s := &splice{raw: response}
	if changed {
		s.replace(span{r.start + at.start, r.start + at.end}, array(entries))
	}
	if call.Era == message.Era2026 && (changed || p.isPersonal(id)) {
		if err := r.makePrivate(s); err != nil {
			return nil, fmt.Errorf("answer to %s: %w", kind.method, err)
		}
	}
	return s.bytes(), nil
}

func kindOf(call *message.Call) *listKind {
	if call == nil {
		return nil
	}
	for i := range listKinds {
		if listKinds[i].method == call.Method {
			return &listKinds[i]
		}
	}
	return nil
}

// isPersonal reports whether a list may differ from caller to caller.
func (p *Policy) isPersonal(id *authenticate.Identity) bool {
	return p.onlyGranted || id != nil && (id.Final || id.Profile != nil && len(id.Profile.Grantable) > 0)
}

var private = []byte(`"private"`)

// makePrivate sets result.cacheScope (REQ-36, DES-32).
func (r *result) makePrivate(s *splice) error {
	at, found, err := lookup(r.members, "cacheScope")
	if err != nil {
		return err
	}
	if found {
		s.replace(span{r.start + at.start, r.start + at.end}, private)
		return nil
	}
	s.insert(span{r.start, r.start + len(r.raw)}, len(r.members) == 0, "cacheScope", private)
	return nil
}

// entries returns what stays of a list, and whether that differs.
func (p *Policy) entries(id *authenticate.Identity, kind *listKind, list []byte) (kept [][]byte, changed bool, err error) {
	elements, err := elementsOf(list)
	if err != nil {
		return nil, false, err
	}
	for _, at := range elements {
		entry := at.of(list)
		if entry[0] != '{' {
			changed = true
			continue
		}
		members, err := membersOf(entry)
		if err != nil {
			return nil, false, err
		}
		key, found, err := lookup(members, kind.key)
		if err != nil {
			return nil, false, err
		}
		name, ok := text(key.of(entry))
		if !found || !ok || name == "" {
			changed = true
			continue
		}
		j := p.listed(id, kind, name)
		if !p.shows(id, j) {
			changed = true
			continue
		}
		if kind.method == "tools/list" && p.schemes {
			annotated, err := annotate(entry, members, p.schemesOf(id, j))
			if err != nil {
				return nil, false, err
			}
			changed = changed || len(annotated) != len(entry) || &annotated[0] != &entry[0]
			entry = annotated
		}
		kept = append(kept, entry)
	}
	return kept, changed, nil
}
