"""The cost of training on this machine's GPU, and checks that nothing is lost there: `python -m benchmarks.gpu`."""
