"""Network trained on pseudo-lesions."""

from anomalib_xray_plugins.pseudo_lesion.lightning_model import PseudoLesion

__all__ = ["PseudoLesion"]
