"""Training: its plan, steps and saved state, prior clips, and validation."""
