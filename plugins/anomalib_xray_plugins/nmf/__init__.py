"""Non-negative matrix factorisation."""

from anomalib_xray_plugins.nmf.lightning_model import Nmf

__all__ = ["Nmf"]
