package doctor

import (
	"maps"
	"net/http"
	"slices"
)

// rule is what is known of a finding before it is made.
type rule struct {
	severity Severity
	title    string
	hurts    []string
	rule     []string
	mend     string
}

// Clients as findings name them.
const (
	tsV1     = "TypeScript SDK 1 (Gemini CLI, LibreChat, most Node agents)"
	tsV2     = "TypeScript SDK 2"
	goSDK    = "go-sdk"
	pySDK    = "Python SDK 1"
	csharp   = "C# SDK"
	vscode   = "VS Code"
	codex    = "Codex"
	gemini   = "Gemini CLI"
	remote   = "mcp-remote"
	fastmcp  = "FastMCP"
	claude   = "Claude"
	chatgpt  = "ChatGPT"
	rmcp     = "rmcp (Goose, Codex)"
	pages    = "clients in a browser (Inspector, MCPJam)"
	everyone = "every client"
)

// catalogue has every finding, by its id.
var catalogue = map[string]rule{
	// Reaching it.
	"open": {Error, "answers without a token", []string{"whoever runs it", "LibreChat, which logs in only when initialize is refused"}, []string{"REQ-03", "REQ-04"},
		"Ask for a token on initialize and server/discover: 401 with WWW-Authenticate."},
	"first-403": {Error, "refuses with 403 where a token is missing", []string{everyone}, []string{"REQ-03", "RFC 6750 section 3.1"},
		"Answer 401 with a Bearer challenge when no token came; 403 is for tokens that may not."},
	"redirect": {Error, "sends clients elsewhere", []string{everyone + ": a POST and its token are not carried along"}, []string{"REQ-13"},
		"Serve the endpoint at the URL people type; mind the slash at its end, and https."},
	"not-mcp": {Error, "does not answer as an MCP endpoint", []string{everyone}, []string{"REQ-03", "REQ-21"},
		"Check the path. An endpoint answers POST with JSON, an event stream, or 401."},
	"probe-" + http.MethodGet: {Warning, "GET without a token is no 401 challenge", []string{remote, fastmcp}, []string{"DES-20"},
		"Look at the token before the method: answer 401 with the same challenge on GET."},
	"probe-" + http.MethodHead: {Warning, "HEAD without a token is no 401 challenge", []string{gemini}, []string{"DES-20"},
		"Answer HEAD as GET: 401 with the same challenge."},
	"discover": {Warning, "server/discover without a token is no 401", []string{"clients of 2026-07-28"}, []string{"DES-20", "REQ-31"},
		"Look at the token before the message: 401 with the same challenge in both protocol eras."},
	"probe-differs": {Warning, "the challenge depends on how one asks", []string{remote, fastmcp, gemini}, []string{"DES-20"},
		"Answer GET, HEAD and POST, in both protocol eras, with the same challenge."},
	"refusal-no-json-rpc": {Warning, "a refusal of a POST has no JSON-RPC body", []string{"clients that take a 4xx without one for an older server"}, []string{"REQ-32", "DES-14"},
		"Send a JSON-RPC error response with the request's id as application/json."},

	// The challenge.
	"challenge-none": {Error, "401 without WWW-Authenticate", []string{everyone}, []string{"RFC 9110 section 15.5.2", "REQ-02"},
		`Send WWW-Authenticate: Bearer resource_metadata="...", scope="...".`},
	"challenge-comma": {Error, "a comma after Bearer: the challenge has no parameters", []string{tsV1, tsV2, goSDK + ", which see no challenge in it; the Python SDKs read it all the same"}, []string{"RFC 9110 section 11.6.1", "RFC 6750 section 3", "DES-10"},
		`Write one space after Bearer and commas between parameters: Bearer error="insufficient_scope", scope="a b".`},
	"challenge-malformed": {Error, "WWW-Authenticate cannot be parsed", []string{goSDK, codex, csharp}, []string{"RFC 9110 section 11.6.1", "DES-11"},
		"Quote every value, write each name once, and commas between parameters only."},
	"challenge-no-bearer": {Error, "no Bearer challenge", []string{everyone}, []string{"RFC 6750 section 3"}, "Send a Bearer challenge."},
	"challenge-several": {Warning, "several challenges, or Bearer not first", []string{tsV1, tsV2}, []string{"DES-10"},
		"Send one header line with one challenge, Bearer."},
	"challenge-scheme-case": {Warning, "the scheme is not spelled Bearer", []string{vscode}, []string{"DES-10"}, "Spell it Bearer: VS Code compares the letters."},
	"challenge-empty-value": {Warning, "an empty value in the challenge", []string{goSDK}, []string{"DES-11"}, "Leave out what has no value."},
	"challenge-comma-in-value": {Warning, "a comma, quote or backslash inside a value", []string{csharp, tsV1}, []string{"DES-11", "DES-12"},
		"Use words without commas, quotes and backslashes in error_description."},
	"challenge-equals": {Warning, "an equals sign inside error_description", []string{tsV1, tsV2}, []string{"DES-12"},
		"Take = out of the text: clients that look for scope= find it there."},
	"challenge-name-suffix": {Warning, "a parameter whose name ends in scope or error", []string{tsV1, tsV2}, []string{"DES-11"},
		"Rename it: clients that look for scope= or error= find it first."},
	"challenge-scope-characters": {Error, "a scope with characters RFC 6749 forbids", []string{everyone}, []string{"RFC 6749 section 3.3", "DES-11"},
		"Scopes are printable ASCII without space, quote and backslash, with single spaces between them."},
	"challenge-offline": {Warning, "offline_access is advertised by the resource", []string{"clients that then fail where the issuer does not grant it"}, []string{"REQ-12", "DES-02"},
		"Leave offline_access to the client."},
	"challenge-no-metadata": {Warning, "the 401 has no resource_metadata", []string{"clients of 2025-06-18", goSDK}, []string{"REQ-02", "RFC 9728 section 5.1"},
		"Add resource_metadata with the URL of the protected-resource document."},
	"challenge-metadata-relative": {Error, "resource_metadata is no absolute URL", []string{everyone}, []string{"RFC 9728 section 5.1"},
		"Write the whole URL, https included."},
	"challenge-no-scope": {Note, "the 401 has no scope", []string{"clients that then ask for everything the metadata lists"}, []string{"REQ-06", "DES-08"},
		"Name the scopes of a first login in the 401."},
	"challenge-error-without-token": {Note, "the 401 has an error although no token came", nil, []string{"RFC 6750 section 3", "DES-15"},
		"Leave error out until a token was presented."},
	"challenge-unstable": {Error, "the challenge differs from one time to the next", []string{tsV1}, []string{"DES-13"},
		"Keep the header equal for equal requests; put request ids in a header of their own."},

	// Protected-resource metadata.
	"metadata-missing": {Error, "no protected-resource metadata", []string{everyone}, []string{"REQ-01", "RFC 9728 section 3"},
		"Serve the document at /.well-known/oauth-protected-resource with the endpoint's path after it."},
	"metadata-told-missing": {Error, "resource_metadata leads nowhere", []string{everyone}, []string{"REQ-02"},
		"Serve the document where the challenge says, as application/json with status 200."},
	"metadata-inserted-missing": {Warning, "no metadata at the well-known place of the endpoint", []string{gemini, remote}, []string{"RFC 9728 section 3.1", "DES-30"},
		"Serve it at /.well-known/oauth-protected-resource with the endpoint's path after it as well."},
	"metadata-appended": {Warning, "the metadata's URL is built the wrong way round", []string{"clients that build it themselves"}, []string{"RFC 9728 section 3.1"},
		"Put the well-known part before the endpoint's path, not behind it."},
	"metadata-root": {Warning, "the metadata at the root names another issuer", []string{gemini, "clients that find no other document"}, []string{"REQ-50", "DES-30"},
		"Serve the endpoint's own document at the root, or none."},
	"metadata-disagrees": {Error, "two metadata documents disagree", []string{everyone}, []string{"DES-30"}, "Serve the same document in both places."},
	"metadata-other-origin": {Warning, "the metadata is on another origin", []string{gemini}, []string{"DES-30"},
		"Serve it on the endpoint's own origin."},
	"metadata-resource": {Error, "resource is not the URL of the endpoint", []string{goSDK, gemini, csharp}, []string{"RFC 9728 section 3.3", "DES-30"},
		"Make resource byte for byte the URL people type, without a slash at its end."},
	"metadata-no-issuer": {Error, "no authorization_servers", []string{everyone}, []string{"REQ-01"}, "Name the issuer in authorization_servers."},
	"metadata-no-scopes": {Note, "no scopes_supported", []string{"clients that ask for nothing then"}, []string{"REQ-07", "DES-08"},
		"List the scopes of a first login."},
	"metadata-scopes-differ": {Note, "scope of the 401 and scopes_supported differ", []string{remote}, []string{"DES-08"},
		"Advertise the same small set in both, in the same order."},
	"metadata-no-cors": {Warning, "pages may not read the metadata", []string{pages}, []string{"DES-30"},
		"Send Access-Control-Allow-Origin: * with the document."},
	"metadata-preflight": {Note, "a page that names its revision may not read the metadata", []string{pages}, []string{"DES-30"},
		"Answer OPTIONS there, and allow MCP-Protocol-Version."},

	// The authorization server.
	"issuer-no-url":      {Error, "an issuer is no URL", []string{everyone}, []string{"RFC 8414 section 2"}, "Name the issuer as an https URL without query and fragment."},
	"issuer-unreachable": {Error, "the authorization server's metadata cannot be had", []string{everyone}, []string{"REQ-70"}, "Check the issuer's URL, and that it can be reached from where clients are."},
	"issuer-differs": {Error, "the issuer calls itself otherwise", []string{everyone, "a slash at the end counts"}, []string{"REQ-57", "RFC 8414 section 3.3"},
		"Write the issuer in authorization_servers exactly as its own document does."},
	"issuer-no-s256": {Error, "the authorization server does not advertise PKCE with S256", []string{everyone}, []string{"REQ-56", "REQ-71"},
		"Have code_challenge_methods_supported list S256; put an authorization server that does in front otherwise."},
	"issuer-no-iss": {Note, "the authorization server does not name itself in its answers", nil, []string{"REQ-72", "RFC 9207"}, "Switch iss in authorization responses on."},
	"issuer-no-registration": {Warning, "clients cannot register themselves", []string{claude, chatgpt, vscode, "all clients without a client id of their own"}, []string{"REQ-59", "REQ-73"},
		"Switch CIMD or DCR on, or give each person a client id to type in."},
	"issuer-no-cimd": {Note, "no client id metadata documents (CIMD)", nil, []string{"REQ-59", "REQ-73"}, "DCR is deprecated; switch CIMD on where the server can."},
	"issuer-no-public-clients": {Warning, "clients without a secret cannot redeem a code", []string{"desktop and command-line clients"}, []string{"OAuth 2.1 section 2.1"},
		"Allow token_endpoint_auth_method none for public clients with PKCE."},
	"issuer-endpoint":    {Error, "an endpoint of the authorization server is not https", []string{everyone}, []string{"REQ-71"}, "Serve it over https."},
	"issuer-lacks-scope": {Warning, "the resource asks for a scope that the issuer does not list", []string{codex, "all clients, if the issuer refuses it"}, []string{"DES-05"}, "Create the scope at the issuer, or leave it out of the policy."},
	"issuer-appended": {Warning, "metadata only at the appended place", []string{"clients that look where RFC 8414 says"}, []string{"REQ-70"},
		"Serve it at /.well-known/oauth-authorization-server with the issuer's path after it."},
	"issuer-only-openid": {Note, "only OpenID Connect's document, not that of RFC 8414", []string{"clients of 2025-06-18 and before"}, []string{"REQ-70"},
		"Serve the same document at /.well-known/oauth-authorization-server as well."},
	"issuer-documents-differ": {Error, "two documents of the issuer disagree", []string{"whoever reads the other one"}, []string{"REQ-70"},
		"Serve the same document in all places."},
	"issuer-no-code": {Error, "the authorization server does not offer codes", []string{everyone}, []string{"REQ-56"},
		"Have it offer the grant authorization_code and the response type code."},
	"issuer-resource-unlisted": {Warning, "the authorization server does not list the resource", []string{"clients that check both ways"}, []string{"RFC 9728 section 4"},
		"Add the resource to protected_resources, or leave that out."},
	"issuer-no-cors": {Note, "pages may not read the authorization server's metadata", []string{pages}, []string{"REQ-70"},
		"Send Access-Control-Allow-Origin: * with the document."},

	// Browsers.
	"preflight-401":     {Warning, "a preflight is answered with 401", []string{pages}, []string{"DES-50"}, "Answer OPTIONS before looking at the token."},
	"preflight-refused": {Note, "pages cannot use the server", []string{pages}, []string{"DES-50"}, "Allow the origins that may, or leave it so."},
	"preflight-headers": {Warning, "pages may not send a header that MCP needs", []string{pages}, []string{"DES-50"},
		"Allow Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name and Last-Event-ID."},
	"preflight-methods": {Note, "pages may not end a session", []string{pages}, []string{"DES-50"}, "Allow the method DELETE."},
	"cors-expose": {Warning, "pages cannot read the challenge or the session", []string{pages}, []string{"DES-50"},
		"Expose WWW-Authenticate, Mcp-Session-Id and MCP-Protocol-Version, on refusals as well."},
	"cors-credentials": {Error, "any page may use the person's cookies", []string{"people who are signed in"}, []string{"DES-50"}, "Do not send Access-Control-Allow-Credentials."},
	"cors-star-credentials": {Warning, "* together with credentials, which browsers refuse", []string{pages}, []string{"DES-50"},
		"Leave Access-Control-Allow-Credentials out."},
	"cors-no-vary": {Note, "answers to one page may be cached for another", []string{pages}, []string{"DES-50"}, "Send Vary: Origin."},
	"origin-unchecked": {Error, "a server on this machine listens to any page", []string{"whoever runs it and opens such a page"}, []string{"REQ-20"},
		"Answer 403 where Origin is not one you know."},
	"origin-any": {Note, "every Origin is let in", []string{"whoever runs it, if tokens were ever sent without being asked for"}, []string{"REQ-20"},
		"Answer 403 where Origin is not one you know."},
	"origin-challenged": {Warning, "a wrong Origin is answered with a challenge", []string{rmcp, vscode}, []string{"DES-27"}, "Answer 403 without WWW-Authenticate."},
	"host-unchecked":    {Error, "a server on this machine answers to any name", []string{"whoever runs it: DNS rebinding"}, []string{"REQ-20"}, "Check the Host header."},

	// What must not open the door.
	"wrong-token-accepted": {Error, "a token that nobody issued is accepted", []string{"whoever runs it"}, []string{"REQ-04"}, "Verify the token before anything else."},
	"wrong-token-status":   {Error, "a wrong token is not answered with 401", []string{everyone}, []string{"REQ-03", "REQ-04"}, "Answer 401 with error=\"invalid_token\"."},
	"wrong-token-error":    {Warning, "a wrong token is not called invalid_token", []string{"clients that then do not log in anew"}, []string{"RFC 6750 section 3.1", "DES-15"}, "Send error=\"invalid_token\" when a token was presented and refused."},
	"scheme-accepted":      {Error, "another scheme than Bearer opens the door", []string{"whoever runs it"}, []string{"DES-16"}, "Answer 401 or 400 to other schemes."},
	"query-token":          {Error, "a token in the query opens the door", []string{"people whose URLs are logged"}, []string{"REQ-55", "DES-16"}, "Take tokens from the Authorization header only."},
	"session-before-token": {Warning, "a session is looked at before the token", []string{"clients that then start anew instead of logging in"}, []string{"DES-24", "DES-41"}, "Look at the token first: 401, whatever the session."},
	"body-stranger": {Warning, "reads a stranger's body before it looks at the token", []string{"whoever runs it: anybody can fill its memory"}, []string{"DES-24", "REQ-04"},
		"Look at the length and the token before the body: 413 or 401 at once."},

	// With a token.
	"token-refused": {Error, "the given token is refused", nil, []string{"REQ-04"}, "Check its audience, issuer and expiry, and that it has the scopes of a first login."},
	"login-failed":  {Error, "logging in led to no token", []string{everyone}, []string{"REQ-51", "REQ-59"}, "See what was seen: it is what the authorization server or the client's own checks said."},
	"login-scope-refused": {Error, "the issuer does not know the scopes that are advertised", []string{everyone}, []string{"REQ-51", "DES-05"},
		"Create the scopes at the issuer and let registered clients ask for them."},
	"login-resource-refused": {Error, "the issuer does not know the resource", []string{everyone + ": they have to send it"}, []string{"REQ-54", "RFC 8707 section 2"},
		"Register the resource's URL at the issuer, exactly as the metadata spells it."},
	"login-insufficient": {Error, "what the first login brings does not open the door", []string{everyone}, []string{"REQ-06", "REQ-07", "DES-08"},
		"Advertise in the 401 what initialize needs, and have the issuer grant it."},
	"login-less":             {Warning, "the issuer granted less than was asked for", []string{everyone}, []string{"RFC 6749 section 3.3"}, "Allow the client these scopes at the issuer, or leave them out of what is advertised."},
	"login-iss-unadvertised": {Note, "the issuer names itself and does not say that it does", []string{goSDK}, []string{"REQ-57", "REQ-72"}, "Set authorization_response_iss_parameter_supported in its metadata."},
	"token-audience":         {Warning, "the token is not for this resource", []string{everyone}, []string{"REQ-04", "RFC 8707"}, "Have the issuer put the resource into aud."},
	"token-issuer":           {Warning, "the token is of an issuer that the metadata does not name", []string{everyone}, []string{"REQ-57"}, "Name the issuer that signs the tokens in authorization_servers."},
	"session-unknown":        {Warning, "an unknown session is not answered with 404", []string{"clients that then never start anew"}, []string{"REQ-24"}, "Answer 404 to a session id that is not known."},
	"session-missing":        {Note, "a request without its session is answered", nil, []string{"REQ-24"}, "Answer 400 where a session was given out and is not named."},
	"session-without-token": {Error, "a session's id opens the door without a token", []string{"everybody whose id is seen"}, []string{"REQ-16", "DES-41"},
		"Look at the token on every request, whatever the session."},
	"session-characters": {Warning, "a session id with characters that a header may not have", []string{everyone}, []string{"REQ-24"}, "Use visible ASCII only."},
	"session-guessable":  {Warning, "a session id that could be guessed", []string{"people whose session it is"}, []string{"REQ-16"}, "Make ids of at least 128 random bits."},
	"session-not-ended":  {Warning, "a session that was ended is still answered", []string{"clients that then never start anew"}, []string{"REQ-24"}, "Answer 404 once a session has ended."},
	"session-modern":     {Note, "gives out a session id in 2026-07-28, which has none", nil, []string{"REQ-23"}, "Leave Mcp-Session-Id out of answers to that revision."},
	"batch-accepted":     {Warning, "an array of messages is accepted", []string{"whoever authorises one message a request"}, []string{"REQ-21"}, "Answer 400 to arrays; only 2025-03-26 has them."},
	"media-type":         {Warning, "a message that is not application/json is accepted", []string{"people signed in elsewhere: pages may send it without asking"}, []string{"REQ-21"}, "Answer 415 to other media types."},
	"body-unlimited":     {Note, "a message of 17 MiB is accepted", []string{"whoever runs it"}, []string{"DES-24"}, "Bound the body, and answer 413."},
	"header-mismatch":    {Error, "headers that contradict the body are accepted", []string{"whoever routes or authorises by headers"}, []string{"REQ-26"}, "Compare Mcp-Method and Mcp-Name with the body; 400 and -32020 where they differ."},
	"header-missing": {Warning, "a request of 2026-07-28 without Mcp-Method is accepted", []string{"whoever routes or authorises by headers"}, []string{"REQ-26"},
		"Answer 400 and -32020 where a mirrored header is missing."},
	"header-name": {Error, "Mcp-Name that contradicts the body is accepted", []string{"whoever routes or authorises by headers"}, []string{"REQ-26"}, "Compare Mcp-Name with params.name or params.uri; 400 and -32020 where they differ."},
	"version-mismatch": {Warning, "a revision in the header that contradicts the body is accepted", []string{"whoever routes by headers"}, []string{"REQ-25"},
		"Compare MCP-Protocol-Version with the body; 400 and -32020 where they differ."},
	"version-unknown":      {Warning, "a revision that does not exist is accepted", []string{"clients that find out what is spoken"}, []string{"REQ-25"}, "Answer 400 and -32022 with the revisions that are spoken."},
	"method-unknown":       {Note, "an unknown method is answered with 200", []string{"clients of 2026-07-28"}, []string{"REQ-29"}, "Answer 404 with the JSON-RPC error -32601."},
	"header-mismatch-code": {Warning, "headers that contradict the body get another error than -32020", []string{"clients of 2026-07-28"}, []string{"REQ-26", "REQ-32"}, "Send a JSON-RPC error with code -32020."},
	"tools-no-schemes":     {Warning, "tools do not say which scopes they need", []string{chatgpt + ", which asks again and again"}, []string{"DES-33"}, "Add securitySchemes to each tool in tools/list."},

	// The step-up.
	"step-up-none":             {Error, "the operation is not refused with 403", []string{everyone}, []string{"REQ-08"}, "Answer 403 with error=\"insufficient_scope\", or name an operation that the token may not use."},
	"step-up-in-band":          {Error, "the refusal is inside the answer, where no client steps up", []string{everyone}, []string{"REQ-08", "DES-21"}, "Answer 403 with a challenge before the operation runs."},
	"step-up-status":           {Error, "the step-up challenge does not come with 403", []string{goSDK, tsV1, tsV2}, []string{"REQ-08"}, "Use status 403; 401 says that the token is wrong."},
	"step-up-no-challenge":     {Error, "403 without WWW-Authenticate", []string{everyone, vscode + " registers a new client each time"}, []string{"REQ-08"}, `Send WWW-Authenticate: Bearer error="insufficient_scope", scope="...", resource_metadata="...".`},
	"step-up-no-error":         {Error, "the 403 has no error code", []string{goSDK, tsV1, tsV2, pySDK}, []string{"RFC 6750 section 3.1", "REQ-08"}, `Add error="insufficient_scope": without it clients retry as they are, or give up.`},
	"step-up-other-error":      {Error, "the 403 has another error than insufficient_scope", []string{everyone}, []string{"RFC 6750 section 3.1"}, `Send error="insufficient_scope".`},
	"step-up-no-scope":         {Error, "the 403 does not say which scopes are needed", []string{everyone}, []string{"REQ-08", "REQ-10"}, "Name every scope the operation needs in scope; where there are several ways, one of them whole."},
	"step-up-no-metadata":      {Warning, "the 403 has no resource_metadata", []string{pySDK, tsV1}, []string{"REQ-08"}, "Add the same resource_metadata as in the 401."},
	"step-up-metadata-differs": {Warning, "the 403 names other metadata than the 401", []string{everyone}, []string{"DES-23"}, "Name the same document in both."},
	"step-up-drops-held":       {Warning, "the challenge leaves out scopes that the token has", []string{vscode, tsV1, pySDK}, []string{"DES-01"}, "Ask for what is needed together with what is held: clients that ask for exactly the challenge lose the rest."},
	"step-up-login-failed":     {Error, "the login for the step-up failed", []string{everyone}, []string{"REQ-53"}, "Let the client ask for the scopes of the challenge at the issuer."},
	"step-up-failed":           {Error, "the operation is refused after the step-up as well", []string{everyone}, []string{"REQ-10", "DES-04"}, "Name every scope the operation needs in one challenge, and have the issuer grant them."},
	"step-up-lost":             {Warning, "the step-up took away what was held", []string{"the next operation"}, []string{"REQ-53", "DES-01"}, "Have the issuer grant all that is asked for, old and new."},
	"step-up-session-lost": {Warning, "the session does not outlive the step-up", []string{"clients that do not start anew by themselves: " + pySDK + ", Inspector"}, []string{"DES-40", "DES-41"},
		"Bind sessions to issuer and subject, not to the token."},
	"refresh-trap": {Warning, "a refresh under a challenge gives the scopes of before", []string{tsV1 + ", which refreshes first and then gives up"}, []string{"DES-34"},
		"Issue no refresh token at the first login, or refuse to refresh while a challenge waits, as Stile's own authorization server does."},
	"step-up-401-in-body": {Warning, "the body of a 403 has 401 in it", []string{gemini}, []string{"DES-14"}, "Keep 401 out of the text: it is taken for a failed login."},
}

// All are the findings there are, by their ids, with nothing in Seen.
func All() []Finding {
	var all []Finding
	for _, id := range slices.Sorted(maps.Keys(catalogue)) {
		r := catalogue[id]
		all = append(all, Finding{ID: id, Severity: r.severity, Title: r.title, Hurts: r.hurts, Rule: r.rule, Mend: r.mend})
	}
	return all
}
