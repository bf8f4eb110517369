"""Concepts on a model: strengths, sums, regions, and how the core applies them; nodes/apply.py does it in ComfyUI."""
