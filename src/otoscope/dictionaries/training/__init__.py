"""One training loop for all architectures: schedule, optimiser, checkpoints, metrics."""
