package stile

import (
	"slices"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/internal/sse"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/session"
)

// announcer tells clients that wait for news that the lists they are shown have
// changed, because a request of theirs came with another grant (DES-31). Only what
// has an open stream is remembered. Its zero value is ready, its methods may be
// called concurrently.
type announcer struct {
	mu      sync.Mutex
	viewers map[viewer]*viewing
}

// viewer is who is shown lists: a session of the 2025 revisions, or what is known
// of a client of 2026-07-28, which has none.
type viewer struct {
	endpoint string
	owner    session.Owner
	session  string // of the upstream
	client   string // 2026-07-28
}

// viewing is what a viewer is shown now, and the streams to tell when that changes.
type viewing struct {
	scopes  scope.Set
	issued  int64 // Unix time of the token, 0 where it does not say
	view    authorize.View
	streams map[*newsStream]struct{}
}

func (x *exchange) viewer() viewer {
	v := viewer{endpoint: x.s.name, owner: x.owner(), session: x.upstream}
	if x.call.Era == message.Era2026 {
		v.session, v.client = "", x.identity.ClientID
	}
	return v
}

// grantCounts reports whether what this caller is listed follows from its token.
func (x *exchange) grantCounts() bool {
	return x.identity != nil && x.s.policy.ListsFollowGrants() && (x.call.Era == message.Era2026 || x.upstream != "")
}

// watch remembers the stream of an exchange that waits for news, until the function
// it returns is called.
func (n *announcer) watch(x *exchange, s *newsStream) (undo func()) {
	key := x.viewer()
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.viewers[key]
	if v == nil {
		v = &viewing{scopes: x.identity.Scopes, issued: issuedAt(x), view: x.s.policy.View(x.identity), streams: map[*newsStream]struct{}{}}
		if n.viewers == nil {
			n.viewers = map[viewer]*viewing{}
		}
		n.viewers[key] = v
	}
	v.streams[s] = struct{}{}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if delete(v.streams, s); len(v.streams) == 0 && n.viewers[key] == v {
			delete(n.viewers, key)
		}
	}
}

func issuedAt(x *exchange) int64 {
	if x.identity.IssuedAt.IsZero() {
		return 0
	}
	return x.identity.IssuedAt.Unix()
}

// see looks at the grant that a request came with. An older token than the last one
// says nothing: another window of the same client may still have it.
func (n *announcer) see(x *exchange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.viewers[x.viewer()]
	if v == nil || slices.Equal(v.scopes, x.identity.Scopes) || issuedAt(x) < v.issued {
		return
	}
	before := v.view
	v.scopes, v.issued, v.view = x.identity.Scopes, issuedAt(x), x.s.policy.View(x.identity)
	changed := kinds{before.Tools != v.view.Tools, before.Resources != v.view.Resources, before.Prompts != v.view.Prompts}
	for s := range v.streams {
		s.tell(changed)
	}
}

// kinds are the lists that can change: of tools, resources and prompts.
type kinds [3]bool

var kindNames = [3]string{"tools", "resources", "prompts"}

// newsStream is one open stream on which a client waits for news.
type newsStream struct {
	insert func(events []byte) bool // into what the client is sent

	mu      sync.Mutex
	id      jsontext.Value // of the subscription; nil: a GET stream of the 2025 revisions
	wanted  kinds          // what may be told, which a subscription says once it is acknowledged
	pending kinds
	telling bool
}

// newNews is the stream that an exchange will be answered with.
func newNews(x *exchange, insert func([]byte) bool) *newsStream {
	s := &newsStream{insert: insert}
	if x.call.Kind == message.Stream {
		s.wanted = kinds{true, true, true}
	} else {
		s.id = x.call.ID
	}
	return s
}

// tell announces changes, in the background: the client may not read.
func (s *newsStream) tell(changed kinds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changed {
		s.pending[i] = s.pending[i] || changed[i] && s.wanted[i]
	}
	if s.pending != (kinds{}) && !s.telling {
		s.telling = true
		go s.send()
	}
}

func (s *newsStream) send() {
	for {
		s.mu.Lock()
		var events []byte
		for i, name := range kindNames {
			if s.pending[i] {
				events = append(events, sse.Format("", "message", s.notification(name))...)
			}
		}
		s.pending = kinds{}
		s.telling = events != nil
		s.mu.Unlock()
		if events == nil {
			return
		}
		s.insert(events) // a stream that has ended needs no news
	}
}

// notification says that a list has changed.
func (s *newsStream) notification(kind string) []byte {
	b := []byte(`{"jsonrpc":"2.0","method":"notifications/` + kind + `/list_changed"`)
	if s.id != nil {
		b = append(append(append(b, `,"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":`...), s.id...), `}}`...)
	}
	return append(b, '}')
}

// acknowledged looks for the message that says what a subscription will be told of
// (2026-07-28 basic/patterns/subscriptions). Nothing may come before it, and nothing
// else after.
func (s *newsStream) acknowledged(msg []byte) {
	var m struct {
		Method string `json:"method"`
		Params struct {
			Notifications struct {
				Tools     bool `json:"toolsListChanged"`
				Resources bool `json:"resourcesListChanged"`
				Prompts   bool `json:"promptsListChanged"`
			} `json:"notifications"`
		} `json:"params"`
	}
	if json.Unmarshal(msg, &m) != nil || m.Method != "notifications/subscriptions/acknowledged" {
		return
	}
	n := m.Params.Notifications
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = kinds{n.Tools, n.Resources, n.Prompts}
}
