"""The contract that every plugin keeps. Change: the model and small settings of it."""

from anomalib_xray.models import MyModel
from anomalib_xray.testing import ModelContract


class TestMyModel(ModelContract):
    """Runs the whole contract on small images."""

    model = MyModel
    settings = {"image_size": 64, "components": 8}  # noqa: RUF012  # read only
