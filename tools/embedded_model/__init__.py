"""Train and measure the embedded model."""
