// A policy of notes as a server's author writes it with @modelcontextprotocol/server:
// a scopeChallenge handler for each tool, resource and prompt. policy_test.go
// has the same policy as a stile.yaml.
import { requireScopes } from '@modelcontextprotocol/server';

const IMPLIES = { 'notes:admin': ['notes:write'], 'notes:write': ['notes:read'] };

// covered answers every scope that somebody with these has.
function covered(scopes) {
  const all = new Set();
  const add = (scope) => {
    if (all.has(scope)) return;
    all.add(scope);
    (IMPLIES[scope] ?? []).forEach(add);
  };
  scopes.forEach(add);
  return all;
}

// anyOf challenges for the alternative that lacks fewest, the first of equals.
const anyOf = (...alternatives) => ({ authInfo }) => {
  const held = covered(authInfo?.scopes ?? []);
  const lacking = alternatives.map((set) => set.filter((scope) => !held.has(scope)).length);
  const fewest = Math.min(...lacking);
  return fewest === 0 ? undefined : { scopes: alternatives[lacking.indexOf(fewest)] };
};
const allOf = (...scopes) => anyOf(scopes);

export const tools = {
  list_notes: allOf('notes:read'),
  create_note: allOf('notes:read', 'notes:write'),
  delete_note: (context) =>
    context.request.params.arguments?.permanent === true
      ? allOf('notes:read', 'notes:write', 'notes:admin')(context)
      : allOf('notes:read', 'notes:write')(context),
  export_notes: anyOf(['notes:read', 'tags:read'], ['notes:read', 'notes:admin'], ['notes:read', 'tags:write']),
  share_note: (context) =>
    allOf('notes:read', `notes:share:${context.request.params.arguments?.to}`)(context),
  // As the SDK's own helper decides: every scope by its own name.
  tag_note: requireScopes('notes:read', 'tags:write'),
};

export const prompts = {
  summarise: allOf('notes:read', 'notes:prompts'),
  translate: anyOf(['notes:read', 'notes:prompts'], ['notes:read', 'notes:admin']),
};

export const resources = {
  index: { uri: 'note://index', scopeChallenge: allOf('notes:read', 'notes:index') },
};

export const templates = {
  note: {
    uri: 'note://{id}',
    scopeChallenge: (context) => allOf('notes:read', `notes:item:${new URL(context.request.params.uri).hostname}`)(context),
  },
};
