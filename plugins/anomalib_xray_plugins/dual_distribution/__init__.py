"""Ensembles with and without unlabelled images."""

from anomalib_xray_plugins.dual_distribution.lightning_model import DualDistribution

__all__ = ["DualDistribution"]
