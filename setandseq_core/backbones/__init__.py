"""Model families outside ComfyUI: the route of each through diffusers, its files and its names."""
