"""Measurements, and the commands that make them."""
