package doctor_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/doctor"
	"github.com/stile-mcp/stile/doctor/provider"
	"github.com/stile-mcp/stile/stiletest"
)

// recorded are the documents of testdata/providers by the name of their provider, and
// words of what each is said to lack. What begins with ! is not said of it.
var recorded = map[string]struct {
	file  string
	lacks []string
}{
	"Keycloak":  {"keycloak.json", []string{"no RFC 8414", "no CIMD, only DCR", "audience mapper", "method none", "!S256", "!iss"}},
	"Auth0":     {"auth0.json", []string{"no CIMD, only DCR", "no iss", "opaque", "ends in a slash", "permissions", "!S256", "!no RFC 8414"}},
	"Okta":      {"okta.json", []string{"no RFC 8414", "administrator's token", "no iss", "scp is an array", "!S256"}},
	"Entra ID":  {"entra.json", []string{"no RFC 8414", "neither DCR nor CIMD", "S256", "no iss", "AADSTS9010010", "api://"}},
	"Google":    {"google.json", []string{"no RFC 8414", "neither DCR nor CIMD", "opaque", "resource is ignored", "!no iss", "!S256"}},
	"GitHub":    {"github.json", []string{"neither DCR nor CIMD", "no iss", "opaque", "no OpenID provider", "!no RFC 8414"}},
	"Cognito":   {"cognito.json", []string{"no RFC 8414", "neither DCR nor CIMD", "S256", "no iss", "client_id and no aud"}},
	"Zitadel":   {"zitadel.json", []string{"no RFC 8414", "neither DCR nor CIMD", "no iss", ":aud", "opaque", "!S256", "!method none"}},
	"Ory Hydra": {"hydra.json", []string{"no CIMD, only DCR", "no iss", "opaque", "!no RFC 8414", "!S256"}},
}

// The recorded documents are served as the providers do, and the doctor says what is
// missing in them and which lines of stile.yaml make up for it.
func TestProviders(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "providers", "*.json"))
	if err != nil || len(files) != len(recorded) {
		t.Fatalf("%d documents, want %d: %v", len(files), len(recorded), err)
	}
	for _, p := range provider.All() {
		want, ok := recorded[p.Name]
		if !ok {
			t.Errorf("%s has no recorded document", p.Name)
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			r := examineRecorded(t, filepath.Join("testdata", "providers", want.file))
			got := r.Provider
			if got == nil || got.Name != p.Name {
				t.Fatalf("recognised as %+v", got)
			}
			lacks := strings.Join(got.Lacks, "\n")
			for _, words := range want.lacks {
				words, unsaid := strings.CutPrefix(words, "!")
				if strings.Contains(lacks, words) == unsaid {
					t.Errorf("%q: want said %v in\n%s", words, !unsaid, lacks)
				}
			}
			if got.Config == "" || got.Setup == "" || strings.Contains(got.Config+got.Direct, "ISSUER") {
				t.Errorf("%s\n%s\n%s", got.Setup, got.Config, got.Direct)
			}
			fits(t, r)
		})
	}
}

func examineRecorded(t *testing.T, file string) doctor.Report {
	t.Helper()
	idp, issuer := serveRecorded(t, file)
	p := newPatient(t, stiletest.IssuerOptions{})
	p.before = answerJSON(isMetadata, func() string {
		return `{"resource":"` + p.url + `","authorization_servers":["` + issuer + `"],"scopes_supported":["notes:read"]}`
	})
	r := p.examine(t)
	if r.Has("issuer-differs") || r.Has("issuer-unreachable") || !slices.Equal(r.Issuers, []string{issuer}) {
		t.Errorf("%v at %s", ids(r), idp)
	}
	return r
}

// serveRecorded serves a document where it was recorded, with its hosts on this machine.
func serveRecorded(t *testing.T, file string) (origin, issuer string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for _, host := range []string{"idp", "pool", "graph"} {
		data = []byte(strings.ReplaceAll(string(data), "https://"+host+".example.com", server.URL))
	}
	var doc struct {
		At       []string `json:"_at"`
		Product  string   `json:"_product"`
		Recorded string   `json:"_recorded"`
		Issuer   string   `json:"issuer"`
	}
	if err := json.Unmarshal(data, &doc); err != nil || len(doc.At) == 0 || doc.Product == "" || doc.Recorded == "" {
		t.Fatalf("%s: %v: says too little of itself", file, err)
	}
	for _, at := range doc.At {
		mux.HandleFunc("GET "+at, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(data)
		})
	}
	return server.URL, doc.Issuer
}

// An issuer that would mean something in stile.yaml is not put into lines that are to
// be copied.
func TestProviderLinesAreSafe(t *testing.T) {
	for _, issuer := range []string{"https://x.example/realms/${HOME}", `https://x.example/realms/a"b`, "https://x.example/realms/a #b", "https://x.example/realms/a\n"} {
		p := provider.Recognise("https://x.example/realms/a", provider.Metadata{})
		if got := p.Config(issuer); strings.Contains(got, "x.example") || !strings.Contains(got, "ISSUER") {
			t.Errorf("%q: %s", issuer, got)
		}
	}
}

// A provider's own domain is known by its host as well.
func TestProvidersByHost(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://acme.eu.auth0.com/":                            "Auth0",
		"https://acme.okta.com/oauth2/default":                  "Okta",
		"https://login.microsoftonline.com/x/v2.0":              "Entra ID",
		"https://accounts.google.com":                           "Google",
		"https://github.com/login/oauth":                        "GitHub",
		"https://cognito-idp.eu-west-2.amazonaws.com/eu-west-2": "Cognito",
		"https://acme.zitadel.cloud":                            "Zitadel",
		"https://acme.projects.oryapis.com":                     "Ory Hydra",
		"https://sso.example.com/realms/acme":                   "Keycloak",
		"https://idp.example.com":                               "",
		"https://notokta.com.example":                           "",
		"::":                                                    "",
	} {
		got := provider.Recognise(issuer, provider.Metadata{})
		if got == nil && want != "" || got != nil && got.Name != want {
			t.Errorf("%s: %v, want %q", issuer, got, want)
		}
	}
}
