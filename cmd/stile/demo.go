package main

// demoCommand shows a step-up with everything in one process.
type demoCommand struct {
	Once bool `help:"End after the step-up instead of staying up."`
}

func (c *demoCommand) run(*process) error {
	return usageError{"demo is not in this version yet"}
}
