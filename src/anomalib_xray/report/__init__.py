"""Results of a benchmark as tables, charts and a page."""

from anomalib_xray.report.page import (
    write_report,
)

__all__ = [
    "write_report",
]
