"""Convolutional networks of timm as feature extractors, with weights from a local file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from anomalib_xray.errors import XrayError

_COUNTER = "num_batches_tracked"
"""Buffer of batch normalisation that files of old versions lack and nothing depends on."""


class Backbone(nn.Module):
    """Feature maps of a convolutional network, from coarse edges to whole structures.

    Nothing is downloaded: weights are random until :meth:`load_weights` reads a file. What follows the last of the
    chosen layers is not built, as far as the network allows.

    Args:
        name: A convolutional network of timm, for example ``resnet18``.
        layers: Which of its feature maps to give, in rising order; a network has four or five, from large to small.

    Attributes:
        channels: Channels of each feature map.
        strides: Side of the image over that of each feature map.

    Raises:
        XrayError: timm has no such network, or the network has no such layers.

    >>> backbone = Backbone("resnet18", layers=(1, 2))
    >>> [tuple(features.shape) for features in backbone(torch.zeros(1, 1, 64, 64))]
    [(1, 64, 16, 16), (1, 128, 8, 8)]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "resnet18", layers: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__()
        if not timm.is_model(name):  # which also keeps names out that timm would look up online
            close = get_close_matches(name, timm.list_models(), 3) or ["resnet18", "wide_resnet50_2"]
            msg = (
                f"backbone is {name!r}, but timm has no network of this name; choose for example {' or '.join(close)}."
            )
            raise XrayError(msg)
        wanted = list(layers)
        try:
            network: Any = timm.create_model(name, pretrained=False, features_only=True, out_indices=wanted)
        except (AssertionError, IndexError, RuntimeError) as error:
            msg = f"The layers {wanted} are not all feature maps of {name}; choose from 0 to 3, or to 4 if it has five."
            raise XrayError(msg) from error
        if not wanted or wanted != sorted(set(wanted)) or wanted[0] < 0:
            msg = f"The layers of a backbone are {wanted}, but they are one or more numbers in rising order, from 0."
            raise XrayError(msg)
        self.name = name
        self.network: nn.Module = network
        self.channels: list[int] = list(network.feature_info.channels())
        self.strides: list[int] = list(network.feature_info.reduction())
        published = timm.get_pretrained_cfg(name)  # the mean and deviation of ImageNet, but for a few networks
        mean = published.mean if published else IMAGENET_DEFAULT_MEAN
        std = published.std if published else IMAGENET_DEFAULT_STD
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of each layer, ``(N, C, S / stride, S / stride)``, of images ``(N, 1, S, S)`` in [0, 1]."""
        maps: list[Tensor] = self.network((image - self.mean) / self.std)
        return maps

    def pooled(self, image: Tensor) -> Tensor:
        """Mean of the last feature map over all places, ``(N, C)``, of images ``(N, 1, S, S)`` in [0, 1]."""
        last: Tensor = self(image)[-1]
        return last.mean((2, 3))

    def load_weights(self, path: str | Path) -> None:
        """Takes over the weights in a file, of timm or torchvision or of a training that wraps such a network.

        A classifier and layers that this backbone does not have are left out. Where no name fits, as in files of other
        libraries, weights are taken in their order if all their shapes agree.

        Args:
            path: A ``.safetensors`` file, or a ``.pth``, ``.pt`` or ``.ckpt`` file with tensors and plain values only.

        Raises:
            XrayError: The file is missing, cannot be read, or holds another network.
        """
        fill(self.network, path, self.name)


def fill(network: nn.Module, path: str | Path, name: str) -> None:
    """Takes weights over into a timm network, whole or cut to its features, see :meth:`Backbone.load_weights`."""
    own = network.state_dict()
    found = _fitting(read_weights(path), own, [part for part, _ in network.named_children()])
    if found is None:
        msg = f"{path} does not hold the weights of {name}; give a file of this network, or another backbone."
        raise XrayError(msg)
    network.load_state_dict({**own, **found})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Reads the tensors of a weights file by name, on the CPU, without running code from it.

    A ``.safetensors`` file, or one that ``torch.save`` wrote: a state dict, alone or within a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise XrayError(f"The weights file {path} is missing; give the path of a local .safetensors or .pth file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both raise about anything for damaged files
        msg = (
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors; save a state dict to a file."
        )
        raise XrayError(msg) from error
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = content.items() if isinstance(content, Mapping) else ()
    return {name: value for name, value in tensors if isinstance(name, str) and isinstance(value, Tensor)}


def _fitting(file: Mapping[str, Tensor], own: Mapping[str, Tensor], parts: Sequence[str]) -> dict[str, Tensor] | None:
    """The file's tensors under the names of the network's own, or ``None`` if they are those of another network.

    ``parts`` are the names of the network's direct parts.
    """
    # timm's feature extractors join the names of nested parts by "_"; and a wrapped network's names have a prefix.
    names = {_plain(name): name for name in own}
    first = next(iter(names))
    prefixes = {_plain(name).removesuffix(first) for name in file if _at_boundary(name, first)}
    for prefix in sorted(prefixes, key=len):
        within = {_plain(name): value for name, value in file.items() if _plain(name).startswith(prefix)}
        within = {name.removeprefix(prefix): value for name, value in within.items()}
        found = {names[name]: value for name, value in within.items() if name in names}
        # Of another depth: more blocks in a part that the network has, for example ResNet-34's in place of ResNet-18's.
        deeper = any(name.startswith(f"{_plain(part)}_") for name in within.keys() - names.keys() for part in parts)
        if not deeper and _complete(found, own):
            return found
    return None if any(_plain(name) in names for name in file) else _in_order(file, own)


def _in_order(file: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The file's tensors in the order of the network's, for files whose names are another library's."""
    weights = [value for name, value in file.items() if not name.endswith(_COUNTER)]
    names = [name for name in own if not name.endswith(_COUNTER)]
    found = dict(zip(names, weights, strict=False))
    return found if _complete(found, own) else None


def _complete(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether every tensor of the network is there in its shape."""
    return all(
        name.endswith(_COUNTER) or (name in found and found[name].shape == value.shape) for name, value in own.items()
    )


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _at_boundary(name: str, ending: str) -> bool:
    """Whether a name of the file ends in a name of the network, alone or after the name of what wraps the network."""
    plain = _plain(name)
    return plain.endswith(ending) and (len(plain) == len(ending) or name[-len(ending) - 1] == ".")
