// Package stiletest has fakes that are the real thing in memory, for tests of a
// gateway and for users of Stile's packages:
//
//   - Issuer is an OAuth 2.1 authorization server that mints any token, good or
//     deliberately bad, and counts what it is asked;
//   - Notes is a small MCP server of both eras that records what reached it, and
//     Scripted one that answers what a test wants;
//   - NewClient is a real MCP client that logs in and steps up without a browser,
//     and Recorder an http.RoundTripper that writes down what it said;
//   - RunFlow plays transcripts: requests, what the upstream saw, exact answers;
//   - InMemory reaches any of the handlers without a network, for tests in the
//     fake time of testing/synctest.
//
// A test of a handler that guards an MCP server looks like this:
//
//	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
//	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
//	guarded := httptest.NewServer(guard(issuer.URL(), notes.URL))
//	defer guarded.Close()
//	session, err := stiletest.NewClient(ctx, guarded.URL+"/mcp", stiletest.ClientOptions{})
//	…
//	if notes.Saw("Authorization") { t.Error("the token went upstream") }
//
// # Transcripts
//
// A transcript is a txtar archive. Its comment is prose. Its files are named
// after steps, which are numbered from 1 without a gap:
//
//	The scope is missing, so the call is refused and nothing goes upstream.
//
//	-- request 1 --
//	POST /mcp
//	Content-Type: application/json
//	Authorization: Bearer ${TOKEN:scopes=notes:read}
//
//	{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_note"}}
//	-- upstream 1 --
//	nothing
//	-- response 1 --
//	HTTP/1.1 403 Forbidden
//	Content-Type: application/json
//	WWW-Authenticate: Bearer error="insufficient_scope", scope="notes:admin"
//	X-Request-Id: ${REQUEST_ID}
//	!Mcp-Session-Id
//
//	{"jsonrpc":"2.0","id":1,"error":{"code":403,"message":"…"}}
//
// A section is a first line, header lines, and after an empty line the body. The
// line break at the end of the section does not belong to the body. A section
// without an empty line has no body.
//
// request N is sent as it stands, header lines in their order, spelling and
// number. Host, and Content-Length where there is a body, are added unless they
// are there; "HTTP/1.1" may be left out.
//
// upstream N is optional: what the upstream saw in this step. It is the word
// nothing, or exactly one request: the first line (method and path), the header
// lines named (others are not looked at), and the body. A line "!Name" says that
// the header was absent.
//
// response N is the status line, all header lines sorted by name, and the body.
// Date is left out, and so is what only frames the message: Content-Length,
// Transfer-Encoding and "Connection: close". A line "!Name" says that the header
// is absent; it stands after the others. `go test -update` writes the response
// sections that do not match anew, and leaves those that do.
//
// In all sections stand:
//
//	${URL}            where the handler listens, such as http://127.0.0.1:4711
//	${ISSUER}         the issuer identifier
//	${NAME}           what an earlier response captured, or FlowEnv.Vars has
//	${TOKEN:…}        a token of the issuer; see below. In requests only.
//
// In upstream and response sections stand:
//
//	${ANY}            anything within one line
//	${NAME=}          one word, captured under that name for what follows
//	${REQUEST_ID}     one word, the same throughout the section
//	${OPEN}           at the end of a response: the stream goes on; hang up here
//
// A word has no space, quote or comma. ${TOKEN:…} takes assignments divided by
// semicolons: scopes (divided by spaces), sub, client, aud, iss, exp, iat and nbf
// (durations from now, such as -1m), typ, alg, kid, omit (names of claims divided
// by commas), and n, any label that makes another token of the same kind. aud is
// FlowEnv.Audience unless given. The same text is the same token throughout a
// transcript.
package stiletest
