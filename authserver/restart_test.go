package authserver_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stile-mcp/stile/store"
)

// openBolt opens the store of a folder until the test ends, or it is closed.
func openBolt(t *testing.T, folder string) *store.Bolt {
	t.Helper()
	b, err := store.OpenBolt(folder)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRestart: what was given out before a restart is as good after it, and what was
// used up or taken back stays so.
func TestRestart(t *testing.T) {
	folder := t.TempDir()
	kept := openBolt(t, folder)
	f := newInnerFixture(t, kept)
	id := f.registered(map[string]any{"client_name": "Agent", "redirect_uris": []string{"https://app.example.com/cb"}, "token_endpoint_auth_method": "none"}).text("client_id")
	usedCode := f.allowed(f.request("client_id", id), ada, "notes:read")
	first := f.redeem(usedCode, "client_id", id)
	second := f.refresh(first.text("refresh_token"), "client_id", id)
	code, waits := f.allowed(f.request(), ada, "notes:read"), f.waiting(f.request())
	gone := f.redeem(f.allowed(f.request("scope", "notes:write"), ada, "notes:write"))
	header, _ := claims(t, second.text("access_token"))
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}

	kept = openBolt(t, folder)
	f = newInnerFixture(t, kept)
	if keys, err := f.PublicKeys(t.Context()); err != nil || keys[header["kid"].(string)] == nil {
		t.Errorf("the key is another: %v %v", keys, err)
	}
	if !f.active(second.text("access_token")) || !f.active(gone.text("access_token")) {
		t.Error("a token is no longer good")
	}
	if got := f.redeem(code); got.status != 200 {
		t.Errorf("a code that was under way: %s", got.body)
	}
	if to, err := f.Allow(t.Context(), waits, ada, []string{"notes:read"}); err != nil || !strings.Contains(to, "code=") {
		t.Errorf("a request that waited: %s %v", to, err)
	}
	third := f.refresh(second.text("refresh_token"), "client_id", id)
	if third.status != 200 {
		t.Errorf("a refresh token: %s", third.body)
	}
	if p, err := f.Pending(t.Context(), f.waiting(f.request("scope", "notes:read notes:write")), ada); err != nil || !p.Scopes[1].Granted {
		t.Errorf("the consent is forgotten: %+v %v", p, err)
	}
	// The token that was exchanged before the restart was copied.
	if got := f.refresh(first.text("refresh_token"), "client_id", id); got.text("error") != "invalid_grant" || f.active(third.text("access_token")) {
		t.Errorf("reuse: %s", got.body)
	}
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNothingSecretOnTheDisk looks for all that was secret in the files of the store,
// and for what somebody allowed.
func TestNothingSecretOnTheDisk(t *testing.T) {
	folder := t.TempDir()
	kept := openBolt(t, folder)
	f := newInnerFixture(t, kept)
	confidential := f.registered(map[string]any{"client_name": "Nosy Agent", "redirect_uris": []string{"https://app.example.com/cb"}})
	code := f.allowed(f.request("scope", "notes:read notes:admin"), ada, "notes:read", "notes:admin")
	got := f.redeem(code)
	next := f.refresh(got.text("refresh_token"))
	unused := f.allowed(f.request(), ada, "notes:read")
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{
		"a client's secret": confidential.text("client_secret"), "a used code": code, "a code": unused, "a used refresh token": got.text("refresh_token"),
		"a refresh token": next.text("refresh_token"), "a token's signature": next.text("access_token")[strings.LastIndex(next.text("access_token"), ".")+1:],
		"a verifier": verifier, "a name": "Nosy Agent", "a scope": "notes:admin", "a private key": `"d":`, "a redirect URI": "app.example.com",
	} {
		if len(secret) < 4 {
			t.Fatalf("%s is %q", name, secret)
		}
		files, err := filepath.Glob(filepath.Join(folder, "*"))
		if err != nil || len(files) == 0 {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s stands in %s", name, filepath.Base(file))
			}
		}
	}
}

// TestRacesOnTheDisk: of 64 who redeem one code, or use one refresh token, exactly
// one gets tokens, with the store that is the default.
func TestRacesOnTheDisk(t *testing.T) {
	kept := openBolt(t, t.TempDir())
	f := newInnerFixture(t, kept)
	code := f.allowed(f.request(), ada, "notes:read")
	if won := race(func() reply { return f.redeem(code) }); won != 1 {
		t.Errorf("%d of 64 got tokens for one code", won)
	}
	token := f.redeem(f.allowed(f.request(), ada, "notes:read")).text("refresh_token")
	if won := race(func() reply { return f.refresh(token) }); won != 1 {
		t.Errorf("%d of 64 got tokens for one refresh token", won)
	}
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
}

// race runs a function 64 times at once, and counts what succeeded.
func race(f func() reply) int32 {
	var (
		group sync.WaitGroup
		won   atomic.Int32
	)
	start := make(chan struct{})
	for range 64 {
		group.Go(func() {
			<-start
			if f().status == http.StatusOK {
				won.Add(1)
			}
		})
	}
	close(start)
	group.Wait()
	return won.Load()
}
