"""Processes that train one model together, each on its share of a batch."""

from __future__ import annotations

import os
from multiprocessing import parent_process

import torch
import torch.distributed as dist
from torch import nn


def sharing(batch: int, asked: int) -> int:
    """How many processes share a batch, each as much of it: those that were asked for, or with 0 one on a GPU
    and else up to one per core. Raises ValueError where the batch cannot be shared so.
    """
    if batch < 1 or asked < 0 or (asked and batch % asked):
        raise ValueError(
            f"a batch of {batch} cannot be shared alike by {asked or 1} processes; "
            "make it a multiple of their number"
        )
    cores = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    return asked or max(count for count in range(1, cores + 1) if batch % count == 0)


def end_with_parent() -> None:
    """A run that is killed must not go on in its other processes, and write over the one that resumes it."""
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


def share_gradients(learner: nn.Module, world: int) -> None:
    """Average the gradients over the processes, in one message.

    A process whose pictures hold nothing for some parameter counts as a gradient of zero there, so that all
    send as much; a parameter for which none has a gradient is left without, so that it is not updated.
    """
    if world == 1:
        return
    parameters = [p for p in learner.parameters() if p.requires_grad]
    used = torch.tensor([float(p.grad is not None) for p in parameters])
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([used.to(gradients[0]), *(g.flatten() for g in gradients)])
    dist.all_reduce(flat)
    used, *shares = flat.split([len(parameters), *(p.numel() for p in parameters)])
    for p, users, share in zip(parameters, used.tolist(), shares, strict=True):
        p.grad = (share / world).view_as(p) if users else None
