"""The command line, `python -m setandseq_core`: one function per command."""
