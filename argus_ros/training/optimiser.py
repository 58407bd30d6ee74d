"""Muon for the matrices, AdamW for the rest, as one optimiser.

Muon (Jordan et al., 2024) orthogonalises each matrix's momentum. torch.optim.Muon does this in
bfloat16, which a CPU without bfloat16 units takes 10 s a step for; here it is float32 on such a one, and
matrices of one shape go together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _processor_has_bfloat16()


@lru_cache
def _processor_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices of (n, rows, columns), by Newton-Schulz iteration."""
    x = matrices.bfloat16() if fast_bfloat16(matrices.device) else matrices
    wide = x.size(-2) <= x.size(-1)
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return (x if wide else x.mT).to(matrices.dtype)


class Optimiser:
    """Updates ``matrices`` by Muon and ``others`` by AdamW; both at a share of the same learning rate."""

    def __init__(
        self, matrices: Iterable[nn.Parameter], others: Iterable[nn.Parameter], decay: float = 0.02
    ) -> None:
        self._groups: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for p in matrices:
            self._groups[p.shape].append(p)
        self._momentum = {
            shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self._groups.items()
        }
        self._decay = decay
        self._adam = torch.optim.AdamW(list(others), lr=1e-3, betas=(0.9, 0.98), weight_decay=decay)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()
        for shape, parameters in self._groups.items():
            used = [
                i for i, p in enumerate(parameters) if p.grad is not None
            ]  # not all parts learn from the start
            if not used:
                continue
            gradient = torch.stack([p.grad for p in parameters if p.grad is not None])
            momentum = self._momentum[shape][used].lerp(gradient, 0.05)
            self._momentum[shape][used] = momentum
            update = orthogonalise(gradient.lerp(momentum, 0.95))  # Nesterov
            scale = 0.2 * max(shape) ** 0.5  # the size of an AdamW step, so that one rate serves both
            for i, u in zip(used, update, strict=True):
                parameters[i].mul_(1 - lr * self._decay).sub_(u, alpha=lr * scale)

    def zero_grad(self) -> None:
        self._adam.zero_grad(set_to_none=True)
        for parameters in self._groups.values():
            for p in parameters:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"adam": self._adam.state_dict(), "momentum": list(self._momentum.values())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._adam.load_state_dict(state["adam"])
        for mine, saved in zip(self._momentum.values(), state["momentum"], strict=True):
            mine.copy_(saved)
