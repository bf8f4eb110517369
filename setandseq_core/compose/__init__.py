"""Concepts on a model: strengths, sums, regions, and how the core applies them; in ComfyUI, see nodes/apply.py."""
