"""Training: a state, one jitted step, a loop with hooks, checkpoints, cost."""
