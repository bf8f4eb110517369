"""What a clip of the embedded world shows, read from its pixels."""
