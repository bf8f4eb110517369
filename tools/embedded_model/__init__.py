"""How the embedded model is trained and measured."""
