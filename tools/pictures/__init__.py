"""Pictures of the interface, and the thumbnails of the workflows."""
