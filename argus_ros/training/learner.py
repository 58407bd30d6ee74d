"""The trainable model: transformers' own modules, the answer's loss and an auxiliary dense loss.

The dense loss asks every patch of the vision features what it lies on (class, colour, box). It makes
a small model see an order of magnitude sooner; its head is dropped from the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Idefics3ForConditionalGeneration

from argus_ros.training.examples import Example
from argus_ros.vlm.models.vision import position_ids

#: Of a patch without an object in the dense loss: five in six are.
BACKGROUND_WEIGHT = 0.2
#: A shorter answer weighs as much as one of so many tokens: a "yes" is not heard beside lists of boxes.
SHORT = 12
#: Of the loss of whole boxes, beside the answer's.
WHOLE_BOXES = 0.25


@dataclass
class Batch:
    """Examples padded to one length, as tensors."""

    images: Tensor  #: (batch, tile, tile, 3) uint8
    tokens: Tensor  #: (batch, length) int64, padded on the right
    answer: Tensor  #: (batch, length) bool: tokens that are to be predicted
    position: Tensor  #: (batch, length) float32: exact location in bins, or -1
    weight: Tensor  #: (batch, length) float32: of each token
    untold: Tensor  #: (batch, n) int64: tokens that are not compared with the right one; padded
    complete: Tensor  #: (batch, classes) bool: every object of the class has a box
    patch_weight: Tensor  #: (batch, patches) float32
    patch_class: Tensor  #: (batch, patches) int64; the number of classes stands for background
    patch_colour: Tensor  #: (batch, patches) int64; -1 where unknown
    patch_box: Tensor  #: (batch, patches, 4) float32 in [0, 1]

    def pin_memory(self) -> Batch:
        """In memory that a GPU copies from while the CPU goes on; a DataLoader calls it."""
        return Batch(**{k: v.pin_memory() for k, v in vars(self).items()})

    def to(self, device: torch.device) -> Batch:
        return Batch(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})


def collate(examples: Sequence[Example], pad: int, grid: int, classes: int) -> Batch:
    """Pad, and say for every patch of a square ``grid`` which object it belongs to."""
    length = max(len(e.tokens) for e in examples)
    tokens = np.full((len(examples), length), pad, np.int64)
    answer = np.zeros((len(examples), length), bool)
    position = np.full((len(examples), length), -1, np.float32)
    weight = np.ones((len(examples), length), np.float32)
    untold = np.full((len(examples), max(len(e.untold) for e in examples)), pad, np.int64)
    patch_weight = np.full((len(examples), grid * grid), BACKGROUND_WEIGHT, np.float32)
    patch_class = np.full((len(examples), grid * grid), classes, np.int64)
    patch_colour = np.full((len(examples), grid * grid), -1, np.int64)
    patch_box = np.zeros((len(examples), grid * grid, 4), np.float32)
    for row, e in enumerate(examples):
        n = len(e.tokens)
        tokens[row, :n], position[row, :n] = e.tokens, e.position
        weight[row, :n], untold[row, : len(e.untold)] = e.weight, e.untold
        answer[row, e.answer_start : n] = True
        owner = owners(e.boxes, grid)
        hit = owner >= 0
        patch_weight[row, hit] = e.weights[owner[hit]]
        patch_class[row, hit] = e.labels[owner[hit]]
        patch_colour[row, hit] = e.colours[owner[hit]]
        patch_box[row, hit] = e.boxes[owner[hit]]
    arrays = (
        np.stack([e.image for e in examples]),
        tokens,
        answer,
        position,
        weight,
        untold,
        np.stack([e.complete for e in examples]),
        patch_weight,
        patch_class,
        patch_colour,
        patch_box,
    )
    return Batch(*map(torch.from_numpy, arrays))


def owners(boxes: np.ndarray, grid: int) -> np.ndarray:
    """Index of the smallest box over each patch's centre, -1 for none; a box's own centre is always its."""
    owner = np.full(grid * grid, -1)
    centre = (np.arange(grid) + 0.5) / grid
    for i in np.argsort([-(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]):
        x0, y0, x1, y1 = boxes[i]
        over = np.outer((centre > y0) & (centre < y1), (centre > x0) & (centre < x1)).ravel()
        owner[over] = i
        column, row = (min(int((a + b) / 2 * grid), grid - 1) for a, b in ((x0, x1), (y0, y1)))
        owner[row * grid + column] = i
    return owner


class Learner(nn.Module):
    """A transformers Idefics3 model with a head for the dense loss on its vision features.

    With ``channels`` another maps the vision features to a teacher's; with ``whole_boxes`` another says all
    four places of a box at once, from where it begins.
    """

    def __init__(
        self,
        model: Idefics3ForConditionalGeneration,
        first_bin: int,
        whole_boxes: bool = False,
        channels: int = 0,
    ) -> None:
        super().__init__()
        vocabulary = model.config.argus
        self.model = model
        self.first_bin = first_bin
        self.bins = vocabulary["bins"]
        self.classes, self.colours = len(vocabulary["classes"]), max(len(vocabulary["colours"]), 1)
        self.centres: Tensor
        self.dense = nn.Linear(model.config.vision_config.hidden_size, self.classes + 1 + self.colours + 4)
        self.teacher = nn.Linear(model.config.vision_config.hidden_size, channels) if channels else None
        width = model.config.text_config.hidden_size
        self.whole_boxes = nn.Linear(width, 4 * self.bins) if whole_boxes else None
        side = model.config.vision_config.image_size // model.config.vision_config.patch_size
        centre = (torch.arange(side) + 0.5) / side
        self.places: Tensor
        self.register_buffer("places", position_ids(side).flatten(), persistent=False)
        self.register_buffer("centres", torch.cartesian_prod(centre, centre).flip(-1), persistent=False)

    def see(self, images: Tensor) -> Tensor:
        """Vision features (batch, patches, width) of uint8 tiles, without the stock model's pixel masks."""
        vision = self.model.model.vision_model
        pixels = images.permute(0, 3, 1, 2).to(self.dense.weight.dtype) / 127.5 - 1
        x = vision.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        x = x + vision.embeddings.position_embedding.weight[self.places]
        return vision.post_layernorm(vision.encoder(inputs_embeds=x).last_hidden_state)

    def freeze_vision(self) -> None:
        """Let the vision encoder and the head of its dense loss stay as they are."""
        self.model.model.vision_model.requires_grad_(False)
        self.dense.requires_grad_(False)

    def dense_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Class and colour by cross entropy, box by distance and overlap, over the patches on objects."""
        out = self.dense(features).float()
        logits, colour, sides = out.split([self.classes + 1, self.colours, 4], -1)
        # A patch may lie on an object without a box: of a class that the picture is not complete for.
        told = F.pad(batch.complete, (0, 1), value=True)[:, None].expand_as(logits)
        told = told.scatter(-1, batch.patch_class[..., None], True)
        logits = logits.masked_fill(~told, -torch.inf)
        wrong = F.cross_entropy(logits.flatten(0, 1), batch.patch_class.flatten(), reduction="none")
        loss = wrong @ batch.patch_weight.flatten() / batch.patch_weight.sum()
        hit = batch.patch_class < self.classes
        if not hit.any():
            return loss
        known = batch.patch_colour >= 0
        if known.any():
            loss = loss + 0.5 * F.cross_entropy(colour[known], batch.patch_colour[known])
        centre = self.centres.expand(len(hit), -1, -1)[hit]
        sides = sides[hit]
        box = torch.cat([centre - sides[:, :2], centre + sides[:, 2:]], -1)
        truth = batch.patch_box[hit]
        return loss + 4 * F.smooth_l1_loss(box, truth, beta=0.02) + overlap_loss(box, truth)

    def teacher_loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean squared distance of the mapped vision features to ``targets`` (batch, patches, channels)."""
        assert self.teacher is not None
        return F.mse_loss(self.teacher(features).float(), targets)

    def answer_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of the answers; a location's target is spread over its neighbouring bins."""
        model = self.model.model
        embeddings = model.text_model.get_input_embeddings()(batch.tokens)
        image = model.connector(features)
        slots = (batch.tokens == self.model.config.image_token_id)[..., None]
        embeddings = embeddings.masked_scatter(slots, image.to(embeddings.dtype))
        hidden = model.text_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        wanted = batch.answer[:, 1:]
        weight = (SHORT / wanted.sum(1, keepdim=True)).clamp(min=1) * batch.weight[:, 1:]
        weight = weight[wanted]
        logits = self.model.lm_head(hidden[:, :-1][wanted]).float()
        tokens, position = batch.tokens[:, 1:][wanted], batch.position[:, 1:][wanted]
        place = position >= 0
        words = words_loss(logits[~place], tokens[~place], batch.untold[wanted.nonzero()[:, 0]][~place])
        places = logits[place].log_softmax(-1)[:, self.first_bin : self.first_bin + self.bins]
        places_loss = -(self._spread(position[place]) * places).sum(1)
        loss = ((words * weight[~place]).sum() + places_loss @ weight[place]) / weight.sum()
        if self.whole_boxes is not None:
            loss = loss + WHOLE_BOXES * self.whole_boxes_loss(hidden, batch.position)
        return loss

    def _spread(self, position: Tensor) -> Tensor:
        """Soft targets (..., bins) of exact locations in bins: a Gaussian of one bin."""
        bins = torch.arange(self.bins, device=position.device)
        return (-0.5 * (bins - position[..., None]) ** 2).softmax(-1)

    def whole_boxes_loss(self, hidden: Tensor, position: Tensor) -> Tensor:
        """Cross entropy of each box's four places, by the hidden states (batch, length, width) before it."""
        assert self.whole_boxes is not None
        row, before = ((position[:, 1:] >= 0) & (position[:, :-1] < 0)).nonzero(as_tuple=True)
        if not len(row):
            return hidden.new_zeros(())
        truth = position[row[:, None], before[:, None] + torch.arange(1, 5, device=row.device)]
        logits = self.whole_boxes(hidden[row, before]).float().unflatten(-1, (4, self.bins))
        return -(self._spread(truth) * logits.log_softmax(-1)).sum(-1).mean()


def words_loss(logits: Tensor, tokens: Tensor, untold: Tensor) -> Tensor:
    """Cross entropy (n,) of tokens among all tokens but those of ``untold`` (n, k) and padding."""
    among = torch.ones_like(logits, dtype=torch.bool).scatter(1, untold, False)
    among = among.scatter(1, tokens[:, None], True)
    return F.cross_entropy(logits.masked_fill(~among, -torch.inf), tokens, reduction="none")


def overlap_loss(box: Tensor, truth: Tensor) -> Tensor:
    """One minus generalised IoU (arXiv 1902.09630), mean over (n, 4) boxes."""
    low, high = torch.maximum(box[:, :2], truth[:, :2]), torch.minimum(box[:, 2:], truth[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (box[:, 2:] - box[:, :2]).clamp(min=0).prod(-1)
    union = area + (truth[:, 2:] - truth[:, :2]).prod(-1) - shared
    hull = (torch.maximum(box[:, 2:], truth[:, 2:]) - torch.minimum(box[:, :2], truth[:, :2])).prod(-1)
    return (2 - shared / (union + 1e-6) - union / (hull + 1e-6)).mean()
