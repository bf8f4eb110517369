"""Take pictures of the interface, and make the thumbnails of the workflows."""
