"""The model of a cell: one of this project's, or one of anomalib's with its pre-processing at a given size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anomalib_xray.experiments.configuration import build
from anomalib_xray.experiments.grid import Cell
from anomalib_xray.plugins import settings_of

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule
    from anomalib.pre_processing import PreProcessor


def build_model(cell: Cell) -> AnomalibModule:
    """Builds the model of a cell.

    Args:
        cell: The cell. Seed and equalisation go to models that take them; before the pre-processing of the others the
            foreground is equalised in the same way.

    Returns:
        The model.

    Raises:
        XrayError: The weights are missing or do not fit.
    """
    from anomalib.models import AnomalibModule

    import anomalib_xray.models  # noqa: F401  # makes the plugins known
    from anomalib_xray.training.radiograph_model import RadiographModel

    class_path: str = cell.model_config["class_path"]
    module, _, name = class_path.rpartition(".")
    model_class = getattr(import_module(module), name)
    arguments = settings_of(model_class)
    changes = {"seed": cell.seed, "equalize": cell.equalize}
    init_args = {**cell.model_config["init_args"], **{key: changes[key] for key in changes if key in arguments}}
    equalizes_itself = "equalize" in arguments
    if cell.image_size is not None or (cell.equalize and not equalizes_itself):
        size = None if cell.image_size is None else (cell.image_size, cell.image_size)
        init_args["pre_processor"] = model_class.configure_pre_processor(image_size=size)
    if cell.equalize and not equalizes_itself:
        _equalize_first(init_args["pre_processor"])
    if "evaluator" in arguments and not issubclass(model_class, RadiographModel):
        # Some evaluators of anomalib's refuse data without masks; the figures come from the score table anyhow.
        init_args.setdefault("evaluator", False)
    with local_weights(cell.weights):
        model: AnomalibModule = build(AnomalibModule, {"class_path": class_path, "init_args": init_args})
    return model


def _equalize_first(pre_processor: PreProcessor) -> None:
    from torchvision.transforms.v2 import Compose

    from anomalib_xray.transforms.grey_levels import EqualizeForeground

    pre_processor.transform = Compose([EqualizeForeground(), *filter(None, [pre_processor.transform])])


@contextmanager
def local_weights(path: str | None) -> Iterator[None]:
    """Lets models that ask timm for trained weights have those of a file, if any; there is no argument for one.

    Raises:
        XrayError: The file is missing, cannot be read, or holds another network.
    """
    if path is None:
        yield
        return
    from unittest.mock import patch

    import timm

    from anomalib_xray.networks.backbone import fill

    create = timm.create_model

    def create_from_file(model_name: str, pretrained: bool = False, **settings: Any) -> Any:
        network = create(model_name, pretrained=False, **settings)
        if pretrained:
            fill(network, path, model_name)
        return network

    with patch.object(timm, "create_model", create_from_file):
        yield
