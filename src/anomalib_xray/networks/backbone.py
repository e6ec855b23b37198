"""Networks of timm as feature extractors, with weights from a local file."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import Eva, VisionTransformer, is_model_in_modules
from torch import Tensor, nn

from anomalib_xray.errors import XrayError

_COUNTER = "num_batches_tracked"
"""Buffer of batch normalisation that files of old versions lack and nothing depends on."""


_TRANSFORMERS = ("vision_transformer", "eva")
"""Modules of timm with vision transformers: those of DINO, DINOv2 and MAE, and those of DINOv3."""

_TYPICAL_SIDE = 16
"""Patches along the side of a picture in an advice: 224 pixels of patches of 14, 256 of 16."""


class Backbone(nn.Module):
    """Feature maps of a network: of a convolutional one from coarse edges to whole structures.

    A vision transformer has a map per block, all of the same side, a place per patch; each passes the network's last
    normalisation, as DINOv2's own ``get_intermediate_layers`` does it. Class and register tokens are left out.

    Nothing is downloaded: weights are random until :meth:`load_weights` reads a file. What follows the last of the
    chosen layers is not built, as far as the network allows.

    Args:
        name: A convolutional network of timm, for example ``resnet18``, or a vision transformer of it, for example
            ``vit_base_patch14_dinov2``.
        layers: Which of its feature maps to give, in rising order from 0. A convolutional network has four or five,
            from large to small; a transformer one per block, 12 of a base model, 24 of a large one.
        image_size: Side S of the images that a transformer takes, a multiple of its patches' side; convolutional
            networks take any.

    Attributes:
        channels: Channels of each feature map.
        strides: Side of the image over that of each feature map.
        side: Side of the images that it takes; ``None`` for any.

    Raises:
        XrayError: timm has no such network, the network has no such layers, or the image is no multiple of its patches.

    >>> backbone = Backbone("resnet18", layers=(1, 2))
    >>> [tuple(features.shape) for features in backbone(torch.zeros(1, 1, 64, 64))]
    [(1, 64, 16, 16), (1, 128, 8, 8)]
    >>> transformer = Backbone("test_vit", layers=(2, 5), image_size=64)
    >>> [tuple(features.shape) for features in transformer(torch.zeros(1, 1, 64, 64))]
    [(1, 64, 4, 4), (1, 64, 4, 4)]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "resnet18", layers: Sequence[int] = (1, 2, 3), image_size: int = 224) -> None:
        super().__init__()
        if not timm.is_model(name):  # which also keeps names out that timm would look up online
            close = get_close_matches(name, timm.list_models(), 3) or ["resnet18", "wide_resnet50_2"]
            msg = (
                f"backbone is {name!r}, but timm has no network of this name; choose for example {' or '.join(close)}."
            )
            raise XrayError(msg)
        wanted = list(layers)
        if not wanted or wanted != sorted(set(wanted)) or wanted[0] < 0:
            msg = f"The layers of a backbone are {wanted}, but they are one or more numbers in rising order, from 0."
            raise XrayError(msg)
        self.name, self.layers = name, wanted
        self.network: nn.Module
        self.channels: list[int]
        self.strides: list[int]
        self.side: int | None = None
        if is_model_in_modules(name, _TRANSFORMERS):
            transformer = _transformer(name, wanted, image_size)
            self.network, self.side = transformer, image_size
            self.channels = [int(transformer.embed_dim)] * len(wanted)
            self.strides = [int(transformer.patch_embed.patch_size[0])] * len(wanted)
        else:
            try:
                network: Any = timm.create_model(name, pretrained=False, features_only=True, out_indices=wanted)
            except (AssertionError, IndexError, RuntimeError) as error:
                msg = (
                    f"The layers {wanted} are not all feature maps of {name}; choose from 0 to 3, or to 4 if it has "
                    "five."
                )
                raise XrayError(msg) from error
            self.network = network
            self.channels = list(network.feature_info.channels())
            self.strides = list(network.feature_info.reduction())
        published = timm.get_pretrained_cfg(name)  # the mean and deviation of ImageNet, but for a few networks
        mean = published.mean if published else IMAGENET_DEFAULT_MEAN
        std = published.std if published else IMAGENET_DEFAULT_STD
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of each layer, ``(N, C, S / stride, S / stride)``, of images ``(N, 1, S, S)`` in [0, 1]."""
        image = (image - self.mean) / self.std
        network: Any = self.network
        maps: list[Tensor] = (
            network(image)
            if self.side is None
            else network.forward_intermediates(image, self.layers, norm=True, intermediates_only=True)
        )
        return maps

    def pooled(self, image: Tensor) -> Tensor:
        """Mean of the last feature map over all places, ``(N, C)``, of images ``(N, 1, S, S)`` in [0, 1]."""
        last: Tensor = self(image)[-1]
        return last.mean((2, 3))

    def load_weights(self, path: str | Path) -> None:
        """Takes over the weights in a file, of timm or torchvision or of a training that wraps such a network.

        Those of a vision transformer may also have the names of DINOv2's, DINOv3's and MAE's releases, or those of
        Hugging Face's ``transformers``; position embeddings of another image size are interpolated.

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
    own, file = network.state_dict(), read_weights(path)
    if isinstance(network, VisionTransformer | Eva):
        found = _fitting_transformer(file, network)
    else:
        found = _fitting(file, own, [part for part, _ in network.named_children()])
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
    for name in ("state_dict", "model_state_dict", "model", "teacher"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = content.items() if isinstance(content, Mapping) else ()
    return {name: value for name, value in tensors if isinstance(name, str) and isinstance(value, Tensor)}


def _transformer(name: str, layers: list[int], image_size: int) -> Any:
    """A vision transformer of timm for a side of images, without the blocks after the last of the layers."""
    network: Any = timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size)
    patch = int(network.patch_embed.patch_size[0])
    if image_size % patch:
        msg = (
            f"image_size is {image_size}, but {name} looks at patches of {patch} x {patch} pixels; choose a multiple, "
            f"for example {_TYPICAL_SIDE * patch}."
        )
        raise XrayError(msg)
    depth = len(network.blocks)
    if layers[-1] >= depth:
        msg = f"The layers {layers} are not all blocks of {name}; choose from 0 to {depth - 1}."
        raise XrayError(msg)
    network.prune_intermediate_layers(layers, prune_norm=False)
    return network


_PATCHES = (
    "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.weight",
)
"""Ends of the name by which a vision transformer's patches are found in a file."""

_HUGGING_FACE = (
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^(encoder\.)?layer\.", "blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.attention\.(q|k|v)(uery|ey|alue)\.", r".attn.\1_proj."),
    (r"\.attention\.(q|k|v)_proj\.", r".attn.\1_proj."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.weights_in|mlp\.up_proj)\.", ".mlp.fc1."),
    (r"\.(output\.dense|mlp\.weights_out|mlp\.down_proj)\.", ".mlp.fc2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
"""Names of ``transformers``' ViT, ViTMAE, Dinov2 and DINOv3 models, and those of the original releases."""


def _fitting_transformer(file: Mapping[str, Tensor], network: Any) -> dict[str, Tensor] | None:
    """The file's tensors under the names of a vision transformer, or ``None`` if they are those of another network."""
    prefixes = {name.removesuffix(end) for name in file for end in _PATCHES if name.endswith(end)}
    # A file of DINO's training holds two networks, of which the teacher is the one to use.
    for prefix in sorted(prefixes, key=lambda prefix: ("teacher" not in prefix, len(prefix))):
        within = {name.removeprefix(prefix): value for name, value in file.items() if name.startswith(prefix)}
        found = _renamed_transformer(within, network)
        if found is not None and _complete(found, network.state_dict()):
            return found
    return None


def _renamed_transformer(file: Mapping[str, Tensor], network: Any) -> dict[str, Tensor] | None:
    """A file's tensors under timm's names, position embeddings interpolated; ``None`` where the networks differ."""
    state: dict[str, Tensor] = {}
    for name, value in file.items():
        for pattern, replacement in _HUGGING_FACE:
            name = re.sub(pattern, replacement, name)
        state[name] = value
    patches = state["patch_embed.proj.weight"]
    blocks = {int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d+\.", name)}
    # timm would resize the patches, too; a file of more blocks is that of a larger network.
    if patches.shape != network.patch_embed.proj.weight.shape or len(blocks) > len(network.feature_info):
        return None
    _join_projections(state)
    own = network.state_dict()
    for number in range(len(network.blocks)):
        within = f"blocks.{number}.attn."
        bias = state.get(f"{within}qkv.bias")
        if bias is not None and own.keys().isdisjoint((f"{within}qkv.bias", f"{within}q_bias")):
            query, _, value = bias.chunk(3)  # DINOv3 masks the keys' bias
            if query.any() or value.any():
                return None
            del state[f"{within}qkv.bias"]
    # timm tells the releases apart by these names.
    state.pop("mask_token", None)
    if "register_tokens" in state and "pos_embed" in state:
        state["mask_token"] = torch.empty(0)  # DINOv2 with registers
    elif "register_tokens" in state:
        state["storage_tokens"] = state.pop("register_tokens")  # DINOv3
    translated: dict[str, Tensor] = sys.modules[type(network).__module__].checkpoint_filter_fn(state, network)
    return {name: value for name, value in translated.items() if name in own}


def _join_projections(state: dict[str, Tensor]) -> None:
    """Puts separate projections to queries, keys and values on top of each other, as timm has them."""
    for name in [name for name in state if ".attn.q_proj." in name]:
        if name.endswith(".bias"):  # DINOv3's keys have none
            state.setdefault(name.replace("q_proj", "k_proj"), torch.zeros_like(state[name]))
        parts = [state.pop(name.replace("q_proj", f"{kind}_proj"), None) for kind in "qkv"]
        if all(part is not None for part in parts):
            state[name.replace("q_proj", "qkv")] = torch.cat([part for part in parts if part is not None])


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
