"""Weights of a large policy into its network, in the precision that fits."""

from __future__ import annotations

from torch import nn

from export.teachers.lerobot.folder import PolicyFolder
from export.teachers.lerobot.weights import Rename


def fill(net: nn.Module, folder: PolicyFolder, rename: Rename, precision: str) -> None:
    """Fills a network whose parameters are on `meta`.

    Raises:
        BadInput: weights that are not those of the network.
        Usage: an unknown precision.
        Refused: not enough memory for it.
    """
    if precision == "fp32":
        folder.load_into(net, rename)
        return
    from export.teachers.precision import load_layerwise  # bitsandbytes, only where it is asked for

    where = f"weights of {folder.type} in {folder.weights.names}"
    load_layerwise(net, folder.tensors(rename), precision, where)
