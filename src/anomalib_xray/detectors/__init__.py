"""Classical detectors: fitted to vectors of normal images by scikit-learn, scored in torch."""

from anomalib_xray.detectors.bank import (
    DETECTORS,
    USUAL_DETECTORS,
    DetectorBank,
    DetectorSettings,
    LocalScale,
    check_detectors,
)
from anomalib_xray.detectors.detector import Detector, Reservoir
from anomalib_xray.detectors.distances import Dbscan, Mahalanobis, NearestNeighbours, Subset, Subspace
from anomalib_xray.detectors.one_class_svm import Gamma, OneClassSvm
from anomalib_xray.detectors.projection import Projection

__all__ = [
    "DETECTORS",
    "USUAL_DETECTORS",
    "Dbscan",
    "Detector",
    "DetectorBank",
    "DetectorSettings",
    "Gamma",
    "LocalScale",
    "Mahalanobis",
    "NearestNeighbours",
    "OneClassSvm",
    "Projection",
    "Reservoir",
    "Subset",
    "Subspace",
    "check_detectors",
]
