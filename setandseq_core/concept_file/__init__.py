"""The concept file: strict reading and writing, its metadata, and its other forms."""
