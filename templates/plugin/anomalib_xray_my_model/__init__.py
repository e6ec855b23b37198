"""MyModel, a plugin of anomalib-xray."""

from anomalib_xray_my_model.lightning_model import MyModel

__all__ = ["MyModel"]
