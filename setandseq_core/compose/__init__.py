"""Put concepts on a model: strengths, sums, regions, and how the core applies them. In ComfyUI, nodes/apply.py does."""
