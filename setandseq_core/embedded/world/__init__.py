"""The embedded model's world: sprites, their motions, and the captions that name them."""
