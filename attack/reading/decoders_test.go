package reading_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	segmentio "github.com/segmentio/encoding/json"
	"github.com/tidwall/gjson"
)

// decoder reads a message; an error means that it would not have acted on it.
type decoder struct {
	name string
	read func(body []byte) (*seen, error)
}

// inProcess are the decoders that need no child process.
var inProcess = []decoder{
	{"encoding/json, map", func(b []byte) (*seen, error) { return readMap(b, unmarshalStd) }},
	{"encoding/json, struct", func(b []byte) (*seen, error) { return readStruct(b, json.Unmarshal) }},
	{"encoding/json, first value", func(b []byte) (*seen, error) {
		return readStruct(b, func(b []byte, v any) error { return json.NewDecoder(bytes.NewReader(b)).Decode(v) })
	}},
	{"segmentio, map", func(b []byte) (*seen, error) { return readMap(b, unmarshalSegmentio) }},
	{"segmentio, struct", func(b []byte) (*seen, error) { return readStruct(b, segmentio.Unmarshal) }},
	{"segmentio, as go-sdk sets it", func(b []byte) (*seen, error) { return readStruct(b, unmarshalAsSDK) }},
	{"go-sdk jsonrpc", readJSONRPC},
	{"gjson", readGJSON},
}

var errNoObject = errors.New("not an object")

func unmarshalStd(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode(v)
}

func unmarshalSegmentio(b []byte, v any) error {
	dec := segmentio.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode(v)
}

func unmarshalAsSDK(b []byte, v any) error {
	dec := segmentio.NewDecoder(bytes.NewReader(b))
	dec.DontMatchCaseInsensitiveStructFields()
	return dec.Decode(v)
}

// readMap looks members up in maps, as a dynamic program does.
func readMap(body []byte, unmarshal func([]byte, any) error) (*seen, error) {
	var decoded any
	if err := unmarshal(body, &decoded); err != nil {
		return nil, err
	}
	root, ok := stdTree(decoded).(map[string]any)
	if !ok {
		return nil, errNoObject
	}
	p, _ := root["params"].(map[string]any)
	ref, _ := p["ref"].(map[string]any)
	at := func(m map[string]any, key string) any {
		if v, ok := m[key]; ok {
			return v
		}
		return absent{}
	}
	return &seen{members: map[member]any{
		method: at(root, "method"), id: at(root, "id"), result: at(root, "result"), failure: at(root, "error"),
		params: at(root, "params"), name: at(p, "name"), uri: at(p, "uri"), arguments: at(p, "arguments"),
		taskID: at(p, "taskId"), refName: at(ref, "name"), refURI: at(ref, "uri"),
	}}, nil
}

// typedMessage is how a program with types reads one; RawMessage shows what it
// got, whatever kind that is.
type typedMessage struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  json.RawMessage `json:"method"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
	Params  struct {
		Name      json.RawMessage `json:"name"`
		URI       json.RawMessage `json:"uri"`
		Arguments json.RawMessage `json:"arguments"`
		TaskID    json.RawMessage `json:"taskId"`
		Ref       json.RawMessage `json:"ref"`
	} `json:"params"`
}

func readStruct(body []byte, unmarshal func([]byte, any) error) (*seen, error) {
	var m typedMessage
	if err := unmarshal(body, &m); err != nil {
		return nil, err
	}
	s := &seen{members: map[member]any{
		method: rawTree(m.Method), id: rawTree(m.ID), result: rawTree(m.Result), failure: rawTree(m.Error),
		name: rawTree(m.Params.Name), uri: rawTree(m.Params.URI), arguments: rawTree(m.Params.Arguments), taskID: rawTree(m.Params.TaskID),
	}}
	var ref struct {
		Name json.RawMessage `json:"name"`
		URI  json.RawMessage `json:"uri"`
	}
	if len(m.Params.Ref) > 0 && unmarshal(m.Params.Ref, &ref) == nil {
		s.members[refName], s.members[refURI] = rawTree(ref.Name), rawTree(ref.URI)
	}
	return s, nil
}

// readJSONRPC is the go-sdk's own decoding, first of the message and then of the
// params into its types.
func readJSONRPC(body []byte) (*seen, error) {
	m, err := jsonrpc.DecodeMessage(body)
	if err != nil {
		return nil, err
	}
	r, ok := m.(*jsonrpc.Request)
	if !ok {
		return &seen{members: map[member]any{method: absent{}}}, nil
	}
	s := &seen{members: map[member]any{method: r.Method, params: rawTree(r.Params)}}
	switch r.Method {
	case "tools/call":
		var p mcp.CallToolParamsRaw
		if err := unmarshalAsSDK(r.Params, &p); err != nil {
			return nil, err
		}
		s.members[name], s.members[arguments] = p.Name, rawTree(p.Arguments)
	case "prompts/get":
		var p mcp.GetPromptParams
		if err := unmarshalAsSDK(r.Params, &p); err != nil {
			return nil, err
		}
		s.members[name] = p.Name
		s.members[arguments] = absent{}
		if p.Arguments != nil {
			given := map[string]any{}
			for k, v := range p.Arguments {
				given[k] = v
			}
			s.members[arguments] = given
		}
	case "resources/read":
		var p mcp.ReadResourceParams
		if err := unmarshalAsSDK(r.Params, &p); err != nil {
			return nil, err
		}
		s.members[uri] = p.URI
	}
	return s, nil
}

// readGJSON reads by paths, without looking at the rest: it accepts nearly
// anything, and of two members takes the first.
func readGJSON(body []byte) (*seen, error) {
	root := gjson.ParseBytes(body)
	if !root.IsObject() {
		return nil, errNoObject
	}
	at := func(path string) any { return gjsonTree(root.Get(path)) }
	return &seen{members: map[member]any{
		method: at("method"), id: at("id"), result: at("result"), failure: at("error"), params: at("params"),
		name: at("params.name"), uri: at("params.uri"), arguments: at("params.arguments"), taskID: at("params.taskId"),
		refName: at("params.ref.name"), refURI: at("params.ref.uri"),
	}}, nil
}

func gjsonTree(r gjson.Result) any {
	switch {
	case !r.Exists():
		return absent{}
	case r.IsObject():
		object := map[string]any{}
		r.ForEach(func(key, value gjson.Result) bool {
			if _, twice := object[key.String()]; !twice {
				object[key.String()] = gjsonTree(value)
			}
			return true
		})
		return object
	case r.IsArray():
		list := []any{}
		r.ForEach(func(_, value gjson.Result) bool {
			list = append(list, gjsonTree(value))
			return true
		})
		return list
	}
	switch r.Type {
	case gjson.String:
		return r.String()
	case gjson.Number:
		return number(strings.TrimSpace(r.Raw))
	case gjson.True, gjson.False:
		return r.Bool()
	default:
		return nil
	}
}
