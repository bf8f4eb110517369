"""Model families outside ComfyUI: how diffusers runs each, its files and its layer names."""
