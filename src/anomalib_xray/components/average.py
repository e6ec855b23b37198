"""Moving average of a network's weights, which generates better than the weights of the moment."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from anomalib_xray.errors import XrayError


def moving_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Makes a copy of a network that follows it, in evaluation and without gradients.

    ``w' = decay * w' + (1 - decay) * w`` after each ``update_parameters``; buffers (batch statistics, singular vectors)
    are the network's own. Source: Yazıcı et al. 2019 (1806.04498); .999 in Zenati et al. 2018's BiGAN.

    Args:
        network: The network to follow.
        decay: Share of the old average that stays in a step; 0 for no average.

    Returns:
        The average, whose ``module`` is the network, or ``None``.

    Raises:
        XrayError: The decay is not in [0, 1).
    """
    if not 0 <= decay < 1:
        msg = f"ema_decay is {decay}, but it is at least 0 (no average) and less than 1."
        raise XrayError(msg)
    if decay == 0:
        return None
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]  # torch has no types there
    average.requires_grad_(False)
    return average.eval()
