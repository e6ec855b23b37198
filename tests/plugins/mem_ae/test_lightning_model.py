from __future__ import annotations

from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.mem_ae import MemAe

SMALL: dict[str, Any] = {"image_size": 64, "width": 2, "hidden": 8, "latent_size": 4, "memory_items": 5}


def test_the_memory_has_the_settings() -> None:
    model: Any = MemAe(**SMALL, addressing="cosine", memory_shrink=0.1)
    memory = model.model.network.memory
    assert memory.items.shape == (5, 4)
    assert (memory.addressing, memory.shrink) == ("cosine", 0.1)
    with pytest.raises(XrayError, match=r"memory_shrink is 0\.3"):
        MemAe(**SMALL, addressing="cosine", memory_shrink=0.3)
    with pytest.raises(XrayError, match="memory_items is 0"):
        MemAe(**{**SMALL, "memory_items": 0})


def test_the_decoder_sees_the_memory_instead_of_the_code() -> None:
    model: Any = MemAe(**SMALL).eval()
    network, image = model.model.network, torch.rand(2, 1, 64, 64)
    recalled, _ = network.memory(network.encoder(2 * image - 1))
    torch.testing.assert_close(model.model.reconstruct(image), (network.decoder(recalled) + 1) / 2)


def test_the_entropy_counts_in_the_loss() -> None:
    losses = []
    batch = ImageBatch(image=torch.rand(3, 1, 64, 64).repeat(1, 3, 1, 1))
    for weight in (0.0, 2.0):
        model: Any = MemAe(**SMALL, entropy_weight=weight)
        model.log_losses = lambda *_: None
        seen: list[torch.Tensor] = []
        model.model.network.register_forward_hook(lambda _, __, made, seen=seen: seen.append(made.weights))
        losses.append(model.training_step(batch))
    entropy = -(seen[0] * seen[0].log()).sum(1).mean()
    torch.testing.assert_close(losses[1] - losses[0], 2 * entropy)
