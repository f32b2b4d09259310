package message

// slot is the place where the reader keeps one known member's raw value.
type slot uint8

const (
	slotJSONRPC slot = iota
	slotID
	slotMethod
	slotParams
	slotResult
	slotError

	slotName
	slotURI
	slotArguments
	slotMeta
	slotRef
	slotNotifications
	slotTaskID
	slotProposed // params.protocolVersion of initialize

	slotVersion // params._meta["io.modelcontextprotocol/protocolVersion"]
	slotClientInfo
	slotCapabilities
	slotProgressToken
	slotLogLevel

	slotRefType
	slotRefName
	slotRefURI

	slotSubscriptions
	slotToolsChanged
	slotPromptsChanged
	slotResourcesChanged

	slotCount
)

// object is a JSON object whose members the reader knows. Its known names are
// all ASCII, which foldsTo relies on.
type object struct {
	path    string
	members []member
}

// member is one known name. inside is what the reader knows about its value
// when that is an object.
type member struct {
	name   string
	slot   slot
	inside *object
}

var metaObject = &object{path: "params._meta", members: []member{
	{name: metaVersion, slot: slotVersion},
	{name: metaClientInfo, slot: slotClientInfo},
	{name: metaCapabilities, slot: slotCapabilities},
	{name: "io.modelcontextprotocol/logLevel", slot: slotLogLevel},
	{name: "progressToken", slot: slotProgressToken},
}}

var refObject = &object{path: "params.ref", members: []member{
	{name: "type", slot: slotRefType},
	{name: "name", slot: slotRefName},
	{name: "uri", slot: slotRefURI},
}}

var notificationsObject = &object{path: "params.notifications", members: []member{
	{name: "resourceSubscriptions", slot: slotSubscriptions},
	{name: "toolsListChanged", slot: slotToolsChanged},
	{name: "promptsListChanged", slot: slotPromptsChanged},
	{name: "resourcesListChanged", slot: slotResourcesChanged},
}}

var paramsObject = &object{path: "params", members: []member{
	{name: "name", slot: slotName},
	{name: "uri", slot: slotURI},
	{name: "arguments", slot: slotArguments},
	{name: "_meta", slot: slotMeta, inside: metaObject},
	{name: "ref", slot: slotRef, inside: refObject},
	{name: "notifications", slot: slotNotifications, inside: notificationsObject},
	{name: "taskId", slot: slotTaskID},
	{name: "protocolVersion", slot: slotProposed},
}}

var rootObject = &object{path: "the message", members: []member{
	{name: "jsonrpc", slot: slotJSONRPC},
	{name: "id", slot: slotID},
	{name: "method", slot: slotMethod},
	{name: "params", slot: slotParams, inside: paramsObject},
	{name: "result", slot: slotResult},
	{name: "error", slot: slotError},
}}

// The entries of params._meta that every modern request carries (2026-07-28
// basic/index "Per-request protocol fields"; clientInfo is only a SHOULD).
const (
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
	metaClientInfo   = "io.modelcontextprotocol/clientInfo"
)

// firstModern is the revision from which requests stand alone. Revisions are
// dates, so that they compare as text.
const firstModern = "2026-07-28"

// legacyRevisions are the revisions with an initialize handshake.
var legacyRevisions = map[string]string{
	"2024-10-07": "2024-10-07",
	"2024-11-05": "2024-11-05",
	"2025-03-26": "2025-03-26",
	"2025-06-18": "2025-06-18",
	"2025-11-25": "2025-11-25",
}

// IsLegacy reports whether a revision is known and begins with initialize: one of
// the 2024 and 2025.
func IsLegacy(revision string) bool { return legacyRevisions[revision] != "" }

// target is what a method acts on, and so which member of params names it.
type target uint8

const (
	targetNone target = iota
	targetName
	targetURI
	targetRef
	targetTask
	targetListen
)

// operation is a request method that the specification defines.
type operation struct {
	method string
	target target
	// mirrored says that Mcp-Name is required from 2026-07-28 on (REQ-26).
	mirrored bool
	// modern says that only 2026-07-28 and later know the method.
	modern bool
	// texts says that every argument is a string (schema GetPromptRequestParams).
	texts bool
	// legacy says that 2026-07-28 has it no more. A server must then answer 404
	// (REQ-29), so what it would act on may be missing.
	legacy bool
}

// operations are the requests a client may send, of every revision.
var operations = index(
	operation{method: "tools/call", target: targetName, mirrored: true},
	operation{method: "prompts/get", target: targetName, mirrored: true, texts: true},
	operation{method: "resources/read", target: targetURI, mirrored: true},
	operation{method: "resources/subscribe", target: targetURI, legacy: true},
	operation{method: "resources/unsubscribe", target: targetURI, legacy: true},
	operation{method: "completion/complete", target: targetRef},
	operation{method: "tasks/get", target: targetTask, mirrored: true},
	operation{method: "tasks/update", target: targetTask, mirrored: true},
	operation{method: "tasks/cancel", target: targetTask, mirrored: true},
	operation{method: "tasks/result", target: targetTask},
	operation{method: "tasks/list"},
	operation{method: "server/discover", modern: true},
	operation{method: "subscriptions/listen", target: targetListen, modern: true},
	operation{method: "initialize"},
	operation{method: "ping"},
	operation{method: "tools/list"},
	operation{method: "prompts/list"},
	operation{method: "resources/list"},
	operation{method: "resources/templates/list"},
	operation{method: "logging/setLevel"},
)

func index(all ...operation) map[string]*operation {
	m := make(map[string]*operation, len(all))
	for i := range all {
		m[all[i].method] = &all[i]
	}
	return m
}
