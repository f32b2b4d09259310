//go:build race

package message_test

// allocationBudget is wider under the race detector, which empties pools at
// random.
const allocationBudget = 40
