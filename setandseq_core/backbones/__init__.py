"""One file per model family; layer names, latent shapes and sizes live only here."""
