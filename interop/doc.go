// Package interop holds no code of Stile: its tests drive the real stile binary
// with clients, suites and an authorization server that others wrote, pinned by
// package-lock.json. README.md says what is driven and how to run it.
package interop
