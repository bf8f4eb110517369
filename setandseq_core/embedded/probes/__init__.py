"""Detectors that read the content of an embedded-world clip from its pixels."""
