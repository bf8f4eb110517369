"""The small model that ships with the pack, the world it was trained on, and what measures its clips."""
