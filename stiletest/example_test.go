package stiletest_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

func Example() {
	issuer := stiletest.NewIssuer(stiletest.IssuerOptions{URL: "https://as.example"})
	// A token that ended a minute ago, for the test that refuses it.
	token := issuer.Token(stiletest.Claims{Scope: "notes:read", Expiry: time.Now().Add(-time.Minute)})
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var claims map[string]any
	json.Unmarshal(payload, &claims)
	fmt.Println(claims["iss"], claims["sub"], claims["scope"])
	// Output: https://as.example alice notes:read
}
