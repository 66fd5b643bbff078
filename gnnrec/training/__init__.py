"""The training loop: negatives, early stopping, checkpoints, exact resume."""
