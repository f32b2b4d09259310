// Package browser tells one browser from another, and who signed in there.
//
// Two cookies do that. One is random and means nothing but "the same browser"; it
// is never stored, and what was begun in one browser is bound to its hash. The
// other is the id of a session, made anew at each sign-in; the store knows its
// hash only. Forms carry a token made from both, so that a form that was shown to
// one person in one browser can be sent by nobody else and from nowhere else.
package browser

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// How long somebody stays signed in.
const (
	// IdleLifetime ends a session that is not used.
	IdleLifetime = time.Hour
	// Lifetime ends a session, used or not.
	Lifetime = 12 * time.Hour
	// touchAfter is how old the time of last use may get before it is written
	// again: a write is a flush to the disk.
	touchAfter = 5 * time.Minute
)

// Records is the part of the store that sessions need.
type Records interface {
	// Load returns a value and what stands for its revision, or nil, "" when there
	// is none or it has expired.
	Load(ctx context.Context, key string) (value []byte, revision string, err error)
	// Swap stores a value until expires if the revision still is the current one.
	Swap(ctx context.Context, key, revision string, value []byte, expires time.Time) (swapped bool, err error)
	// Delete takes a value away, if it is there.
	Delete(ctx context.Context, key string) error
}

// Login is who signed in, and how.
type Login struct {
	Subject string   `json:"subject"`
	Name    string   `json:"name"`
	Scopes  []string `json:"scopes"` // that may be granted; nil: all
	// Epoch is that of the local account; empty: signed in through a provider.
	Epoch string    `json:"epoch,omitempty"`
	At    time.Time `json:"at"` // when; UTC
}

// session is a Login as it is stored.
type session struct {
	Login
	Seen time.Time `json:"seen"` // last used; UTC
}

// Sessions are the browsers of one authorization server. They are safe for
// concurrent use.
type Sessions struct {
	records          Records
	browser, session string // names of cookies
	secure           bool
}

// NewSessions returns the sessions of the server at publicURL. At https cookies
// are __Host- cookies (RFC 6265bis §4.1.3.2): no other host and no plain
// connection can set them. At http, which is for loopback only, browsers would
// refuse those; since cookies do not tell ports apart, the port is in the name.
func NewSessions(publicURL string, records Records) (*Sessions, error) {
	u, err := url.Parse(publicURL)
	if err != nil {
		return nil, fmt.Errorf("public URL: %w", err)
	}
	s := &Sessions{records: records, browser: "__Host-stile-browser", session: "__Host-stile-session", secure: true}
	if u.Scheme != "https" {
		s.browser, s.session, s.secure = "stile-browser-"+u.Port(), "stile-session-"+u.Port(), false
	}
	return s, nil
}

// Visit is one request of one browser.
type Visit struct {
	sessions *Sessions
	w        http.ResponseWriter
	browser  string // value of the cookie
	id       string // value of the cookie; empty: none that is good
	login    *Login
}

// Visit reads who is at the other end, and gives a browser that is new its cookie.
// It must be called before anything is written. The error is the store's.
func (s *Sessions) Visit(w http.ResponseWriter, r *http.Request) (*Visit, error) {
	v := &Visit{sessions: s, w: w, browser: only(r, s.browser)}
	if v.browser == "" {
		v.browser = newValue()
		s.set(w, s.browser, v.browser)
	}
	id := only(r, s.session)
	if id == "" {
		return v, nil
	}
	login, err := s.find(r.Context(), id)
	if err == nil && login != nil {
		v.id, v.login = id, login
	}
	return v, err
}

// Login is who is signed in; nil: nobody. It must not be changed.
func (v *Visit) Login() *Login { return v.login }

// Binding stands for this browser in what is stored. It is no secret of use: the
// cookie cannot be told from it.
func (v *Visit) Binding() string { return hash("browser", v.browser) }

// Secret derives a secret from this browser's own, the same whenever it is asked
// with the same arguments.
func (v *Visit) Secret(purpose string, values ...string) string {
	return hash("secret "+purpose, append([]string{v.browser}, values...)...)
}

// FormToken is what a form of this page carries in a hidden field.
func (v *Visit) FormToken() string { return hash("form", v.browser, v.id) }

// CheckForm reports whether a form was shown in this browser, to whoever is signed
// in there now.
func (v *Visit) CheckForm(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(v.FormToken())) == 1
}

// SignIn starts a session under a new id, and ends the one before. The error is
// the store's.
func (v *Visit) SignIn(ctx context.Context, login Login) error {
	if err := v.end(ctx); err != nil {
		return err
	}
	now := time.Now().UTC()
	login.At = now
	id := newValue()
	value, err := json.Marshal(session{Login: login, Seen: now})
	if err != nil {
		return fmt.Errorf("starting a session: %w", err)
	}
	swapped, err := v.sessions.records.Swap(ctx, key(id), "", value, now.Add(Lifetime))
	if err == nil && !swapped {
		err = errors.New("its id is in use") // 256 random bits
	}
	if err != nil {
		return fmt.Errorf("starting a session: %w", err)
	}
	v.id, v.login = id, &login
	v.sessions.set(v.w, v.sessions.session, id)
	return nil
}

// SignOut ends the session, here and in the store.
func (v *Visit) SignOut(ctx context.Context) error {
	v.sessions.unset(v.w, v.sessions.session)
	return v.end(ctx)
}

func (v *Visit) end(ctx context.Context) error {
	if v.id == "" {
		return nil
	}
	id := v.id
	v.id, v.login = "", nil
	if err := v.sessions.records.Delete(ctx, key(id)); err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

// find returns who signed in under an id, or nil.
func (s *Sessions) find(ctx context.Context, id string) (*Login, error) {
	value, revision, err := s.records.Load(ctx, key(id))
	if err != nil || value == nil {
		return nil, err
	}
	var found session
	if err := json.Unmarshal(value, &found); err != nil {
		return nil, fmt.Errorf("reading a session: %w", err)
	}
	now := time.Now().UTC()
	if now.Sub(found.Seen) >= IdleLifetime || now.Sub(found.At) >= Lifetime {
		return nil, s.records.Delete(ctx, key(id))
	}
	if now.Sub(found.Seen) >= touchAfter {
		found.Seen = now
		if value, err = json.Marshal(found); err != nil {
			return nil, fmt.Errorf("keeping a session: %w", err)
		}
		// If it was not swapped, another request did it, or ended the session: the
		// next request will see.
		if _, err = s.records.Swap(ctx, key(id), revision, value, found.At.Add(Lifetime)); err != nil {
			return nil, err
		}
	}
	return &found.Login, nil
}

// set gives the browser a cookie that ends with it.
func (s *Sessions) set(w http.ResponseWriter, name, value string) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

func (s *Sessions) unset(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// only returns the value of a cookie that is there once and looks like one of
// ours, or "". Two of a name mean that somebody else set one of them.
func only(r *http.Request, name string) string {
	found := r.CookiesNamed(name)
	if len(found) != 1 || len(found[0].Value) != valueLength {
		return ""
	}
	return found[0].Value
}

// valueLength is that of 256 random bits in base64url.
const valueLength = 43

func newValue() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// key is where a session is stored.
func key(id string) string { return "browser-session/" + hash("session", id) }

// hash stands for secrets of fixed length, apart for each purpose.
func hash(purpose string, values ...string) string {
	h := sha256.New()
	h.Write([]byte(purpose))
	for _, v := range values {
		h.Write([]byte{0})
		h.Write([]byte(v))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
