"""Verbs of `anomalib-xray`, one per file: the signature is the arguments, the docstring the help. Light to import."""
