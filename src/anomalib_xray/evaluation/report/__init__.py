"""What a benchmark found, as one file that a browser shows without a network."""

from __future__ import annotations

from anomalib_xray.evaluation.report.page import write_report

__all__ = ["write_report"]
