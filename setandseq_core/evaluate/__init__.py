"""How good a generated clip is: metrics, and contact sheets to look at."""
