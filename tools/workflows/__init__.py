"""The workflow files, written by `python -m tools.workflows`."""
