"""Training data: video files, clips with their prompts, and both as the two stages see them."""
