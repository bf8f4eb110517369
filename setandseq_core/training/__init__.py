"""What keeps a training going: its steps and saved state, prior clips, and validation."""
