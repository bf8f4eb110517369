"""Model families outside ComfyUI: what all of them share, and how diffusers loads and runs each."""
