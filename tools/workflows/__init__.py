"""Build the workflow files: `python -m tools.workflows.make`."""
