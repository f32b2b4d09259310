package people

import (
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	// From the reference implementation: printf password | argon2 somesalt -id -t 2 -k 19456 -p 1 -l 32 -e
	h, err := parseHash(newHash([]byte("password")))
	if err != nil {
		t.Fatal(err)
	}
	if h.memory != costMemory || h.time != costTime || h.threads != costThreads || len(h.salt) != saltBytes {
		t.Errorf("parameters %+v", h)
	}
	if again, _ := parseHash(newHash([]byte("password"))); string(again.salt) == string(h.salt) {
		t.Error("two hashes share a salt")
	}
	for password, want := range map[string]bool{"password": true, "Password": false, "": false} {
		if ok, outdated, err := matches(h.String(), []byte(password)); ok != want || outdated || err != nil {
			t.Errorf("%q: %v, %v, %v", password, ok, outdated, err)
		}
	}
}

// What is checked for unknown names costs exactly what a new account costs.
func TestUnmatchedCostsTheSame(t *testing.T) {
	a, err := parseHash(unmatched())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := parseHash(newHash([]byte("x")))
	if a.memory != b.memory || a.time != b.time || a.threads != b.threads || len(a.salt) != len(b.salt) || len(a.key) != len(b.key) {
		t.Errorf("%+v and %+v", a, b)
	}
	if ok, _, _ := matches(unmatched(), nil); ok {
		t.Error("it matches")
	}
}

func TestBrokenHashes(t *testing.T) {
	good := newHash([]byte("password"))
	for name, s := range map[string]string{
		"empty": "", "another kind": strings.Replace(good, "argon2id", "argon2i", 1),
		"version": strings.Replace(good, "v=19", "v=16", 1), "memory": strings.Replace(good, "m=19456", "m=4000000", 1),
		"no passes": strings.Replace(good, "t=2", "t=0", 1), "passes": strings.Replace(good, "t=2", "t=99", 1),
		"no threads": strings.Replace(good, "p=1", "p=0", 1), "cut": good[:len(good)-8], "no key": good[:strings.LastIndexByte(good, '$')],
		"signs": good[:len(good)-2] + "??",
	} {
		if ok, _, err := matches(s, []byte("password")); ok || err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=8,t=1,p=255$$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err != nil {
			return
		}
		if h.memory > maxMemory || h.time > maxTime || h.threads > maxThreads || h.time == 0 || h.threads == 0 || len(h.key) != keyBytes {
			t.Errorf("%q was accepted: %+v", s, h)
		}
		if again, err := parseHash(h.String()); err != nil || again.String() != h.String() {
			t.Errorf("%q is read otherwise when it was written: %v", s, err)
		}
	})
}
