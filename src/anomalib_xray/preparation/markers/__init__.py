"""Detectors of lead markers and writing, and what keeps them off the hand."""
