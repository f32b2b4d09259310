package authserver_test

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/authserver/people"
)

// agent is a second client, with the redirect URI of the first. A third registers
// itself, with the same.
const agent = "agent"

// pair is a person and a client: what one person granted one client says nothing of
// another pair.
type pair struct{ who, client string }

// family is what came of one consent: a code, and the tokens of its grant.
type family struct {
	pair
	scopes  []string
	code    string
	refresh []string // refresh tokens, the good one last
	access  string   // the latest access token
	dead    bool
	leaked  bool // another client had the code: it need not be good any more
}

// world is what people granted, as a person would keep it on paper.
type world struct {
	f        *fixture
	clients  []string
	granted  map[pair][]string
	families []*family
}

// TestNobodyGetsWhatWasNotGranted plays random sequences of authorizing, refusing,
// redeeming, refreshing, stepping up, revoking and removing accounts, with clients
// that replay, ask for more than they have, and use what is another's. No token ever has a scope that its person has not granted
// to its client, and what was revoked gives nothing.
func TestNobodyGetsWhatWasNotGranted(t *testing.T) {
	f := newFixture(t, func(c *authserver.Config) {
		c.Clients = append(c.Clients, authserver.Client{ID: agent, Name: "Agent", RedirectURIs: []string{"https://app.example.com/cb"}})
	})
	clients := []string{"app", agent, f.registered(map[string]any{"client_name": "Third", "redirect_uris": []string{"https://app.example.com/cb"},
		"token_endpoint_auth_method": "none", "scope": "notes:read"}).text("client_id")}
	worlds := 0
	rapid.Check(t, func(r *rapid.T) {
		worlds++
		w := &world{f: f, clients: clients, granted: map[pair][]string{}}
		person := rapid.Custom(func(r *rapid.T) string {
			return fmt.Sprintf("%s-%d", rapid.SampledFrom([]string{"ada", "bob"}).Draw(r, "person"), worlds)
		})
		client := rapid.SampledFrom(clients)
		r.Repeat(map[string]func(*rapid.T){
			"authorize": func(r *rapid.T) { w.authorize(r, person.Draw(r, "who"), client.Draw(r, "client")) },
			"refuse":    func(r *rapid.T) { w.refuse(r, client.Draw(r, "client")) },
			"redeem": func(r *rapid.T) {
				w.redeem(r, w.any(r, func(f *family) bool { return len(f.refresh) == 0 && !f.dead }))
			},
			"use a code again": func(r *rapid.T) { w.redeem(r, w.any(r, every)) },
			"refresh":          func(r *rapid.T) { w.refresh(r, w.any(r, (*family).lives), newest) },
			"refresh the dead": func(r *rapid.T) { w.refresh(r, w.any(r, func(f *family) bool { return f.dead }), newest) },
			"replay": func(r *rapid.T) {
				w.refresh(r, w.any(r, func(f *family) bool { return f.lives() && len(f.refresh) > 1 }), old)
			},
			"challenge": func(r *rapid.T) {
				f.Challenged(person.Draw(r, "who"), client.Draw(r, "client"), some(r, "scopes"), "x")
			},
			"take back": func(r *rapid.T) { w.takeBack(r, person.Draw(r, "who"), client.Draw(r, "client")) },
			"give up":   func(r *rapid.T) { w.giveUp(r, w.any(r, every)) },
			"remove":    func(r *rapid.T) { w.remove(r, person.Draw(r, "who")) },
			"silence":   func(r *rapid.T) { w.silence(r, person.Draw(r, "who"), client.Draw(r, "client")) },
			"":          w.check,
		})
	})
}

// some draws a set of scopes, not empty.
func some(r *rapid.T, label string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(known), 1, len(known), rapid.ID).Draw(r, label)
}

// any draws a family of some kind.
func (w *world) any(r *rapid.T, kind func(*family) bool) *family {
	var some []*family
	for _, one := range w.families {
		if kind(one) {
			some = append(some, one)
		}
	}
	if len(some) == 0 {
		r.Skip("there is none")
	}
	return rapid.SampledFrom(some).Draw(r, "family")
}

func every(*family) bool { return true }

// lives reports whether tokens were given out that are good still.
func (f *family) lives() bool { return len(f.refresh) > 0 && !f.dead }

// seldom lets an action that ends much happen less often than others.
func seldom(r *rapid.T) {
	if rapid.IntRange(0, 2).Draw(r, "seldom") > 0 {
		r.Skip("another time")
	}
}

// authorize has a client ask, and a person grant some of it.
func (w *world) authorize(r *rapid.T, who, client string) {
	if len(w.families) == 5 {
		r.Skip("few families have more of a life each")
	}
	asked := some(r, "asked")
	granted := rapid.SliceOfNDistinct(rapid.SampledFrom(asked), 1, len(asked), rapid.ID).Draw(r, "granted")
	q := w.f.request("client_id", client, "scope", strings.Join(asked, " "))
	code := w.f.allowed(q, people.Person{Subject: who, Name: who}, granted...)
	p := pair{who, client}
	w.granted[p] = append(w.granted[p], granted...)
	w.families = append(w.families, &family{pair: p, scopes: granted, code: code})
}

func (w *world) refuse(r *rapid.T, client string) {
	to, err := w.f.Refuse(w.f.t.Context(), w.f.waiting(w.f.request("client_id", client, "scope", strings.Join(some(r, "asked"), " "))))
	if err != nil || answer(w.f.t, to).Get("code") != "" {
		r.Fatalf("refused, and sent to %s, %v", to, err)
	}
}

// redeem redeems a code, by its client or another, once or again.
func (w *world) redeem(r *rapid.T, one *family) {
	client := w.by(r, one)
	got := w.f.redeem(one.code, "client_id", client)
	used := len(one.refresh) > 0
	switch {
	case client != one.client:
		if got.status == http.StatusOK {
			r.Fatalf("%s redeemed a code of %s", client, one.client)
		}
		one.leaked = true
		one.dead = one.dead || used && !w.f.active(one.access)
	case used || one.dead:
		if got.status == http.StatusOK {
			r.Fatalf("a code was redeemed twice, or after its consent was taken back: %s", got.body)
		}
		one.dead = true
	case got.status != http.StatusOK && one.leaked:
	case got.status != http.StatusOK:
		r.Fatalf("a good code was refused: %s", got.body)
	default:
		w.took(r, one, got, one.scopes)
	}
}

// by draws who uses what is a family's: its own client, most of the time.
func (w *world) by(r *rapid.T, one *family) string {
	if rapid.IntRange(0, 4).Draw(r, "own") > 0 {
		return one.client
	}
	return rapid.SampledFrom(w.clients).Draw(r, "by")
}

// Which refresh token is used: the good one, or one that was exchanged before.
const newest, old = true, false

// refresh uses a refresh token of a family, the good one or an old one, for as much
// as it has, less, or more.
func (w *world) refresh(r *rapid.T, one *family, good bool) {
	if len(one.refresh) == 0 {
		r.Skip("not redeemed")
	}
	token := one.refresh[len(one.refresh)-1]
	if !good {
		token = rapid.SampledFrom(one.refresh[:len(one.refresh)-1]).Draw(r, "token")
	}
	var asked []string
	if rapid.Bool().Draw(r, "asks") {
		asked = some(r, "asked")
	}
	client := w.by(r, one)
	pairs := []string{"client_id", client}
	if len(asked) > 0 {
		pairs = append(pairs, "scope", strings.Join(asked, " "))
	}
	got := w.f.refresh(token, pairs...)
	if !good {
		one.dead = true // it was copied
	}
	if got.status != http.StatusOK {
		return // a challenge waits, the scopes are too many, or it is another's
	}
	if client != one.client {
		r.Fatalf("%s refreshed a token of %s: %s", client, one.client, got.body)
	}
	if one.dead {
		r.Fatalf("a dead family was refreshed: %s", got.body)
	}
	want := asked
	if len(asked) == 0 {
		want = one.scopes
	}
	w.took(r, one, got, want)
}

// took holds what was given against what may be.
func (w *world) took(r *rapid.T, one *family, got reply, want []string) {
	_, c := claims(w.f.t, got.text("access_token"))
	told, _ := c["scope"].(string)
	scopes := strings.Fields(told)
	if told != got.text("scope") || c["sub"] != one.who || c["client_id"] != one.client {
		r.Fatalf("%s for %v: claims %v", got.body, one.pair, c)
	}
	if !sameSet(scopes, want) || !subset(scopes, one.scopes) || !subset(scopes, w.granted[one.pair]) {
		r.Fatalf("%v got %q; wanted %q of %q, granted %q", one.pair, scopes, want, one.scopes, w.granted[one.pair])
	}
	one.refresh, one.access = append(one.refresh, got.text("refresh_token")), got.text("access_token")
}

// silence is a person who refuses what a client asks for: that changes nothing.
func (w *world) silence(r *rapid.T, who, client string) {
	before, err := w.f.Grants(w.f.t.Context(), who)
	if err != nil {
		r.Fatal(err)
	}
	w.refuse(r, client)
	after, err := w.f.Grants(w.f.t.Context(), who)
	if err != nil || len(after) != len(before) {
		r.Fatalf("a refusal made %d grants %d, %v", len(before), len(after), err)
	}
}

// remove is an account that is removed, with all that it had allowed.
func (w *world) remove(r *rapid.T, who string) {
	seldom(r)
	if err := w.f.RevokeAll(w.f.t.Context(), who); err != nil {
		r.Fatal(err)
	}
	for _, one := range w.families {
		if one.who == who {
			one.dead = true
			delete(w.granted, one.pair)
		}
	}
	if left, err := w.f.Grants(w.f.t.Context(), who); err != nil || len(left) > 0 {
		r.Fatalf("left: %v, %v", left, err)
	}
}

// takeBack is a person who revokes on the page of their grants.
func (w *world) takeBack(r *rapid.T, who, client string) {
	seldom(r)
	grants, err := w.f.Grants(w.f.t.Context(), who)
	if err != nil {
		r.Fatal(err)
	}
	for _, g := range grants {
		if name := map[string]string{"app": "App", agent: "Agent"}[client]; g.Client.Name != cmp.Or(name, "Third") {
			continue
		}
		if _, err := w.f.Revoke(w.f.t.Context(), who, g.ID); err != nil {
			r.Fatal(err)
		}
		p := pair{who, client}
		delete(w.granted, p)
		for _, one := range w.families {
			if one.pair == p {
				one.dead = true
			}
		}
	}
}

// giveUp is a client that revokes its token (RFC 7009).
func (w *world) giveUp(r *rapid.T, one *family) {
	seldom(r)
	if len(one.refresh) == 0 {
		r.Skip("not redeemed")
	}
	token := rapid.SampledFrom([]string{one.refresh[len(one.refresh)-1], one.access}).Draw(r, "token")
	client := w.by(r, one)
	got := w.f.form("/revoke", url.Values{"token": {token}, "client_id": {client}})
	if client != one.client {
		return // check wants it to be as it was
	}
	if got.status != http.StatusOK {
		r.Fatalf("revocation: %s", got.body)
	}
	one.dead = true
}

// check looks at every family after each step.
func (w *world) check(r *rapid.T) {
	for _, one := range w.families {
		if one.access != "" && w.f.active(one.access) == one.dead {
			r.Fatalf("%v with %q: dead is %v, and its token is not as it should be", one.pair, one.scopes, one.dead)
		}
	}
}

func subset(some, of []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(of, s) })
}

func sameSet(a, b []string) bool { return len(a) == len(b) && subset(a, b) }
