package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stile-mcp/stile/propose"
)

// lists reads every list of the kinds that the server says it has.
func (a *asker) lists(ctx context.Context, h *hello) (propose.Inventory, error) {
	in := propose.Inventory{Server: h.ServerInfo.Name, Version: h.ServerInfo.Version}
	for _, one := range []struct {
		capability, method, key string
		take                    func(item json.RawMessage) error
	}{
		{"tools", "tools/list", "tools", func(item json.RawMessage) error {
			tool, err := readTool(item)
			in.Tools = append(in.Tools, tool)
			return err
		}},
		{"resources", "resources/list", "resources", into(&in.Resources, "uri")},
		{"resources", "resources/templates/list", "resourceTemplates", into(&in.Templates, "uriTemplate")},
		{"prompts", "prompts/list", "prompts", into(&in.Prompts, "name")},
	} {
		if _, has := h.Capabilities[one.capability]; !has {
			continue
		}
		var code *rpcError
		err := a.pages(ctx, one.method, one.key, one.take)
		if errors.As(err, &code) && code.Code == methodNotFound {
			continue
		}
		if err != nil {
			return in, err
		}
	}
	return in, nil
}

// pages reads one list to its end.
func (a *asker) pages(ctx context.Context, method, key string, take func(json.RawMessage) error) error {
	params, seen, items := map[string]any{}, map[string]bool{}, 0
	for range maxPages {
		var page map[string]json.RawMessage
		if err := a.call(ctx, method, params, &page); err != nil {
			return err
		}
		var list []json.RawMessage
		if err := json.Unmarshal(page[key], &list); err != nil {
			return fmt.Errorf("%s: the answer has no list of %s", method, key)
		}
		if items += len(list); items > MaxItems {
			return fmt.Errorf("%s: the server lists more than %d", method, MaxItems)
		}
		for _, item := range list {
			if err := take(item); err != nil {
				return fmt.Errorf("%s: %w", method, err)
			}
		}
		cursor := ""
		if next := page["nextCursor"]; next != nil && json.Unmarshal(next, &cursor) != nil {
			return fmt.Errorf("%s: nextCursor is not a text", method)
		}
		switch {
		case cursor == "":
			return nil
		case seen[cursor]:
			return fmt.Errorf("%s: the pages go round in a circle", method)
		}
		seen[cursor] = true
		params = map[string]any{"cursor": cursor}
	}
	return fmt.Errorf("%s: the list has more than %d pages", method, maxPages)
}

// into collects one text of every item.
func into(list *[]string, key string) func(json.RawMessage) error {
	return func(item json.RawMessage) error {
		text, err := textOf(item, key)
		*list = append(*list, text)
		return err
	}
}

func textOf(item json.RawMessage, key string) (string, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(item, &fields); err != nil {
		return "", errors.New("an item of the list is not an object")
	}
	var text *string
	if err := json.Unmarshal(fields[key], &text); err != nil || text == nil {
		return "", errors.New("an item of the list has no " + key)
	}
	return *text, nil
}

// readTool reads a tool. A hint that is not a boolean was not given.
func readTool(item json.RawMessage) (propose.Tool, error) {
	name, err := textOf(item, "name")
	if err != nil {
		return propose.Tool{}, err
	}
	var fields struct {
		Annotations json.RawMessage `json:"annotations"`
	}
	var hints map[string]json.RawMessage
	if json.Unmarshal(item, &fields) == nil && fields.Annotations != nil {
		_ = json.Unmarshal(fields.Annotations, &hints) // what cannot be read gives no hint
	}
	hint := func(key string) *bool {
		var on *bool
		if hints[key] == nil || json.Unmarshal(hints[key], &on) != nil {
			return nil
		}
		return on
	}
	return propose.Tool{Name: name, ReadOnly: hint("readOnlyHint"), Destructive: hint("destructiveHint"),
		Idempotent: hint("idempotentHint"), OpenWorld: hint("openWorldHint")}, nil
}
