package session_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/session"
)

var (
	keyA = bytes.Repeat([]byte{0xA1}, 32)
	keyB = bytes.Repeat([]byte{0xB2}, 48)
	keyC = bytes.Repeat([]byte{0xC3}, 32)

	alice = session.Owner{Issuer: "https://idp.example.com/realms/acme", Subject: "alice@example.com"}
	bob   = session.Owner{Issuer: "https://idp.example.com/realms/acme", Subject: "bob@example.com"}
)

func newSealer(t testing.TB, maxAge time.Duration, keys ...[]byte) *session.Sealer {
	t.Helper()
	s, err := session.New(session.Config{Keys: keys, MaxAge: maxAge})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, s *session.Sealer, endpoint string, o session.Owner, upstream string) string {
	t.Helper()
	id, err := s.Seal(endpoint, o, upstream)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRoundTrip(t *testing.T) {
	s := newSealer(t, 0, keyA)
	tests := []struct {
		name, endpoint string
		owner          session.Owner
		upstream       string
	}{
		{"plain", "notes", alice, "7f3c1a"},
		{"no upstream id", "notes", alice, ""},
		{"no token", "notes", session.Owner{}, "7f3c1a"},
		{"no endpoint name", "", alice, "x"},
		{"all visible ASCII", "notes", alice, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"},
		{"bytes", "notes", alice, "\x00\xff\n"},
		{"as long as can be", strings.Repeat("n", session.MaxEndpoint),
			session.Owner{Issuer: strings.Repeat("i", 9000), Subject: strings.Repeat("s", 9000)},
			strings.Repeat("u", session.MaxUpstream)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := seal(t, s, tt.endpoint, tt.owner, tt.upstream)
			got, err := s.Open(id, tt.endpoint, tt.owner)
			if err != nil || got != tt.upstream {
				t.Errorf("Open = %q, %v; want %q", got, err, tt.upstream)
			}
			if len(id) > 1458 {
				t.Errorf("id has %d bytes; the limit that is documented is 1458", len(id))
			}
			if i := strings.IndexFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7E }); i >= 0 {
				t.Errorf("id has %q at %d: want visible ASCII only (2025-11-25 transports)", id[i], i)
			}
			if again := seal(t, s, tt.endpoint, tt.owner, tt.upstream); again == id {
				t.Error("two sessions have the same id")
			}
		})
	}
}

func TestOthersAreRefused(t *testing.T) {
	s := newSealer(t, 0, keyA)
	tests := []struct {
		name     string
		sealed   session.Owner
		endpoint string
		opener   session.Owner
		want     error
	}{
		{"other subject", alice, "notes", bob, session.ErrNotOwner},
		{"other issuer", alice, "notes", session.Owner{Issuer: "https://evil.example.com", Subject: alice.Subject}, session.ErrNotOwner},
		{"no token any more", alice, "notes", session.Owner{}, session.ErrNotOwner},
		{"a token since", session.Owner{}, "notes", alice, session.ErrNotOwner},
		{"nobody is not an empty issuer", session.Owner{}, "notes", session.Owner{Subject: "x"}, session.ErrNotOwner},
		{"nobody is not an empty subject", session.Owner{}, "notes", session.Owner{Issuer: "x"}, session.ErrNotOwner},
		{"issuer and subject do not run together", session.Owner{Issuer: "a", Subject: "bc"}, "notes",
			session.Owner{Issuer: "ab", Subject: "c"}, session.ErrNotOwner},
		{"a client called like a person", alice, "notes", session.Owner{Issuer: alice.Issuer, Subject: alice.Subject, Kind: 1}, session.ErrNotOwner},
		{"all in the issuer", session.Owner{Subject: "x"}, "notes", session.Owner{Issuer: "x"}, session.ErrNotOwner},
		{"case of the subject", alice, "notes", session.Owner{Issuer: alice.Issuer, Subject: "Alice@example.com"}, session.ErrNotOwner},
		{"trailing slash of the issuer", alice, "notes", session.Owner{Issuer: alice.Issuer + "/", Subject: alice.Subject}, session.ErrNotOwner},
		{"other endpoint", alice, "notes2", alice, session.ErrInvalid},
		{"part of the endpoint", alice, "note", alice, session.ErrInvalid},
		{"no endpoint", alice, "", alice, session.ErrInvalid},
		{"endless endpoint", alice, strings.Repeat("n", 70000), alice, session.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := seal(t, s, "notes", tt.sealed, "up")
			got, err := s.Open(id, tt.endpoint, tt.opener)
			if !errors.Is(err, tt.want) || got != "" {
				t.Errorf("Open = %q, %v; want %v", got, err, tt.want)
			}
			if got, err := s.Open(id, "notes", tt.sealed); err != nil || got != "up" {
				t.Errorf("its own owner: Open = %q, %v", got, err)
			}
		})
	}
}

func TestRotation(t *testing.T) {
	before, during, after := newSealer(t, 0, keyA), newSealer(t, 0, keyB, keyA), newSealer(t, 0, keyB)
	old := seal(t, before, "notes", alice, "old")
	fresh := seal(t, during, "notes", alice, "fresh")
	tests := []struct {
		name, id string
		by       *session.Sealer
		want     string
		err      error
	}{
		{"old id, both keys", old, during, "old", nil},
		{"new id, both keys", fresh, during, "fresh", nil},
		{"new id, new key: the first seals", fresh, after, "fresh", nil},
		{"old id, new key only", old, after, "", session.ErrInvalid},
		{"new id, old key only", fresh, before, "", session.ErrInvalid},
		{"same key twice", old, newSealer(t, 0, keyA, keyA), "old", nil},
		{"foreign key", old, newSealer(t, 0, keyC), "", session.ErrInvalid},
		{"another process with the key", old, newSealer(t, 0, keyA), "old", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.by.Open(tt.id, "notes", alice); got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Open = %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestEveryBitCounts(t *testing.T) {
	s := newSealer(t, 0, keyA, keyB)
	for _, upstream := range []string{"", "u", "up", "upstream-id"} { // every length of the last base64 group
		id := seal(t, s, "notes", alice, upstream)
		raw, err := base64.RawURLEncoding.DecodeString(id)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(raw) * 8 {
			flipped := bytes.Clone(raw)
			flipped[i/8] ^= 1 << (i % 8)
			refused(t, s, base64.RawURLEncoding.EncodeToString(flipped))
		}
		for i := range id {
			for bit := range 8 {
				text := []byte(id)
				text[i] ^= 1 << bit
				refused(t, s, string(text))
			}
			refused(t, s, id[:i])
			refused(t, s, id[i+1:])
			refused(t, s, id[:i]+"\n"+id[i:])
			refused(t, s, id[:i]+id[i:i+1]+id[i:])
		}
	}
}

func refused(t *testing.T, s *session.Sealer, id string) {
	t.Helper()
	if got, err := s.Open(id, "notes", alice); !errors.Is(err, session.ErrInvalid) || got != "" {
		t.Errorf("Open(%q) = %q, %v; want ErrInvalid", id, got, err)
	}
}

func TestNotAnID(t *testing.T) {
	s := newSealer(t, 0, keyA)
	id := seal(t, s, "notes", alice, "up")
	for _, tt := range []struct{ name, id string }{
		{"empty", ""},
		{"the upstream's own", "up"},
		{"a UUID", "1868a90c-5f3a-4b1e-9f5e-0a2b3c4d5e6f"},
		{"padded", id + "="},
		{"padded to a group", id + "=="},
		{"standard alphabet", strings.NewReplacer("-", "+", "_", "/").Replace(id) + "+/"},
		{"line end", id + "\r\n"},
		{"space", " " + id},
		{"twice", id + id},
		{"two joined by a comma", id + "," + id},
		{"not ASCII", id + "é"},
		{"zeros", strings.Repeat("A", 200)},
		{"version and zeros", "AQ" + strings.Repeat("A", 198)},
		{"just too long", strings.Repeat("A", session.MaxID+1)},
		{"very long", strings.Repeat("A", 1<<20)},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, s, tt.id) })
	}
}

func TestExpiry(t *testing.T) {
	tests := []struct {
		name   string
		maxAge time.Duration
		after  time.Duration
		want   error
	}{
		{"fresh", time.Minute, 0, nil},
		{"last second", time.Minute, 59 * time.Second, nil},
		{"to the second", time.Minute, time.Minute, session.ErrExpired},
		{"long ago", time.Minute, 400 * 24 * time.Hour, session.ErrExpired},
		{"default: before", 0, 24*time.Hour - time.Second, nil},
		{"default: after", 0, 24 * time.Hour, session.ErrExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSealer(t, tt.maxAge, keyA)
				id := seal(t, s, "notes", alice, "up")
				time.Sleep(tt.after) // the bubble's clock: no waiting
				if _, err := s.Open(id, "notes", alice); !errors.Is(err, tt.want) {
					t.Errorf("after %v: %v, want %v", tt.after, err, tt.want)
				}
				if tt.want == nil {
					return
				}
				// What does not open at all is never called expired.
				if _, err := s.Open(id, "other", alice); !errors.Is(err, session.ErrInvalid) {
					t.Errorf("expired, at another endpoint: %v, want ErrInvalid", err)
				}
			})
		})
	}
}

func TestSealLimits(t *testing.T) {
	s := newSealer(t, 0, keyA)
	for _, tt := range []struct{ name, endpoint, upstream, want string }{
		{"endpoint", strings.Repeat("n", session.MaxEndpoint+1), "up", "endpoint name of 129 bytes: want at most 128"},
		{"upstream", "notes", strings.Repeat("u", session.MaxUpstream+1), "upstream session id of 1025 bytes: want at most 1024"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := s.Seal(tt.endpoint, alice, tt.upstream)
			if err == nil || err.Error() != tt.want || id != "" {
				t.Errorf("Seal = %q, %v; want %q", id, err, tt.want)
			}
		})
	}
}

func TestConfigMistakes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config session.Config
		want   []string
	}{
		{"no keys", session.Config{}, []string{"keys"}},
		{"short key", session.Config{Keys: [][]byte{keyA, keyA[:31]}}, []string{"keys[1]"}},
		{"empty key", session.Config{Keys: [][]byte{{}}}, []string{"keys[0]"}},
		{"negative age", session.Config{Keys: [][]byte{keyA}, MaxAge: -time.Hour}, []string{"max_age"}},
		{"less than a second", session.Config{Keys: [][]byte{keyA}, MaxAge: time.Second - 1}, []string{"max_age"}},
		{"all at once", session.Config{Keys: [][]byte{keyA[:5], keyA, nil}, MaxAge: -1}, []string{"max_age", "keys[0]", "keys[2]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := session.New(tt.config)
			var list problem.List
			if !errors.As(err, &list) || s != nil {
				t.Fatalf("New = %v, %v; want a problem.List", s, err)
			}
			var paths []string
			for _, p := range list {
				paths = append(paths, p.Path)
			}
			if got, want := strings.Join(paths, " "), strings.Join(tt.want, " "); got != want {
				t.Errorf("problems at %q, want %q", got, want)
			}
			if strings.Contains(err.Error(), string(keyA[:5])) {
				t.Error("the error holds key material")
			}
		})
	}
}

// A caller may wipe or reuse its key buffers.
func TestKeysAreNotKept(t *testing.T) {
	key := bytes.Clone(keyA)
	s := newSealer(t, 0, key)
	id := seal(t, s, "notes", alice, "up")
	clear(key)
	if _, err := s.Open(id, "notes", alice); err != nil {
		t.Error(err)
	}
}

func TestNothingIsLegible(t *testing.T) {
	s := newSealer(t, 0, keyA)
	id := seal(t, s, "endpoint-name", alice, "upstream-session")
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{alice.Issuer, alice.Subject, "alice", "example", "endpoint", "upstream", string(keyA)} {
		if strings.Contains(id, secret) || bytes.Contains(raw, []byte(secret)) {
			t.Errorf("the id shows %q", secret)
		}
	}
	// The key id is all that two ids have in common.
	other, err := base64.RawURLEncoding.DecodeString(seal(t, s, "endpoint-name", alice, "upstream-session"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(other, raw[5:21]) || bytes.Equal(raw[29:45], other[29:45]) {
		t.Error("two ids of one session look alike behind the key id")
	}
}

// FuzzOpen: nothing opens that this sealer did not seal, for anybody at any
// endpoint. The text is made of pieces of ids that are sealed afresh, since those
// of another fuzzing process are as good as these.
func FuzzOpen(f *testing.F) {
	s := newSealer(f, 0, keyA, keyB)
	id := seal(f, s, "notes", alice, "up")
	twin := seal(f, s, "notes", alice, "up")
	foreign := seal(f, newSealer(f, 0, keyC), "notes", alice, "up")
	whole := uint16(len(id))
	f.Add("", uint16(0), whole, whole, "", "notes", alice.Issuer, alice.Subject)
	f.Add("", uint16(0), whole, whole, "", "other", alice.Issuer, alice.Subject)
	f.Add("", uint16(0), whole, whole, "", "notes", "", "")
	f.Add("", uint16(0), whole, whole, "", "notes", alice.Issuer, bob.Subject)
	f.Add("", uint16(0), whole-1, whole, "", "notes", alice.Issuer, alice.Subject)
	f.Add("", uint16(0), whole-1, whole, "A", "notes", alice.Issuer, alice.Subject)
	f.Add("", uint16(0), uint16(40), uint16(40), "", "notes", alice.Issuer, alice.Subject)
	f.Add("", uint16(0), whole, whole, "=", "notes", alice.Issuer, alice.Subject)
	f.Add("\n", uint16(0), whole, whole, "", "notes", alice.Issuer, alice.Subject)
	f.Add("AQ", uint16(2), whole, whole, "", "notes", alice.Issuer, alice.Subject)
	f.Add(foreign, uint16(0), uint16(0), whole, "", "notes", alice.Issuer, alice.Subject)
	f.Add(strings.Repeat("A", 200), uint16(0), uint16(0), whole, "", "notes", alice.Issuer, alice.Subject)
	f.Fuzz(func(t *testing.T, head string, from, to, turn uint16, tail, endpoint, issuer, subject string) {
		turn, to = min(turn, whole), min(to, whole)
		turn, from = max(turn, to), min(from, to)
		text := head + id[from:to] + twin[turn:] + tail
		got, err := s.Open(text, endpoint, session.Owner{Issuer: issuer, Subject: subject})
		mine := (text == id || text == twin) && endpoint == "notes"
		owned := issuer == alice.Issuer && subject == alice.Subject
		switch {
		case mine && owned:
			if got != "up" || err != nil {
				t.Errorf("the sealed id: %q, %v", got, err)
			}
		case mine:
			if got != "" || !errors.Is(err, session.ErrNotOwner) {
				t.Errorf("owner (%q, %q): %q, %v; want ErrNotOwner", issuer, subject, got, err)
			}
		default:
			if got != "" || !errors.Is(err, session.ErrInvalid) {
				t.Errorf("Open(%q, %q) = %q, %v; want ErrInvalid", text, endpoint, got, err)
			}
		}
	})
}

// FuzzSeal: whatever is sealed opens to the same, and only to its owner.
func FuzzSeal(f *testing.F) {
	s := newSealer(f, 0, keyA)
	f.Add("notes", "up", "https://idp.example.com", "alice", "https://idp.example.com", "bob")
	f.Add("", "", "", "", "", "x")
	f.Add("notes", "\x00", "a", "bc", "ab", "c")
	f.Fuzz(func(t *testing.T, endpoint, upstream, issuer, subject, issuer2, subject2 string) {
		owner, other := session.Owner{Issuer: issuer, Subject: subject}, session.Owner{Issuer: issuer2, Subject: subject2}
		id, err := s.Seal(endpoint, owner, upstream)
		if err != nil {
			if len(endpoint) <= session.MaxEndpoint && len(upstream) <= session.MaxUpstream {
				t.Fatal(err)
			}
			return
		}
		if got, err := s.Open(id, endpoint, owner); got != upstream || err != nil {
			t.Errorf("Open = %q, %v; want %q", got, err, upstream)
		}
		if _, err := s.Open(id, endpoint, other); other != owner && !errors.Is(err, session.ErrNotOwner) {
			t.Errorf("another owner: %v, want ErrNotOwner", err)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	s := newSealer(b, 0, keyA, keyB)
	id := seal(b, s, "notes", alice, "1868a90c-5f3a-4b1e-9f5e-0a2b3c4d5e6f")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(id, "notes", alice); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	s := newSealer(b, 0, keyA)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Seal("notes", alice, "1868a90c-5f3a-4b1e-9f5e-0a2b3c4d5e6f"); err != nil {
			b.Fatal(err)
		}
	}
}
