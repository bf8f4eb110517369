"""Metrics of generated clips, and contact sheets to look at."""
