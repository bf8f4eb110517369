"""A real ComfyUI server with the pack in it, for tests and tools."""
