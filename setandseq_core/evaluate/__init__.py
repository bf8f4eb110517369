"""Metrics of generated clips, and contact sheets to judge them by eye."""
