"""Concepts on a model: strengths, sums, regions, and the one place that applies them."""
