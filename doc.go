// Package stile puts OAuth scopes in front of any MCP server and lets real
// clients step up to the scope they lack.
package stile
