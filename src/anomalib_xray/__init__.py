"""Plugins that teach anomalib to find anomalies in radiographs without labels."""

__version__ = "0.1.0"

NOTICE = "Research use only. Not a medical device."
"""Stands wherever a score is shown."""
