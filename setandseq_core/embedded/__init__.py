"""The small model that ships with the pack, the world it was trained on, and probes that measure its clips."""
