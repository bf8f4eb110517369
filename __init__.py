"""Set-and-Sequence: dynamic concepts from one clip. The entry point for ComfyUI comes here with the nodes."""
