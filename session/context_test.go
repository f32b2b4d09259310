package session_test

import (
	"testing"

	"github.com/stile-mcp/stile/session"
)

func TestOwnerInContext(t *testing.T) {
	if got, ok := session.OwnerFrom(t.Context()); ok || got != (session.Owner{}) {
		t.Errorf("without an owner: %+v, %v", got, ok)
	}
	for _, want := range []session.Owner{{Issuer: "https://idp.example.com", Subject: "ada"}, {}} {
		if got, ok := session.OwnerFrom(session.WithOwner(t.Context(), want)); !ok || got != want {
			t.Errorf("got %+v, %v, want %+v", got, ok, want)
		}
	}
}
