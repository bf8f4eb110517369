"""Training and measuring the embedded model."""
