"""Measures the cost of training on this machine's GPU, and checks that nothing is lost: `python -m benchmarks.gpu`."""
