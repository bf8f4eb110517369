"""What training costs on this machine's GPU, and whether nothing is lost there: `python -m benchmarks.gpu`."""
