"""Training data: video files, clips with their prompts, and the encoded material of both stages."""
