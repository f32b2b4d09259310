//go:build !race

package message_test

// allocationBudget is how many allocations one Read may cost.
const allocationBudget = 5
