"""What training minimises: cross entropy, distillation and the gates' regulariser."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from headgate.train.gates import gate_loss
from headgate.train.recipe import Recipe
from headgate.train.schedule import gate_penalty_weight


def objective(
    recipe: Recipe,
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None,
    penalty: Tensor | None,
) -> Tensor:
    """A scalar, in float32 whatever the precision of the forward pass.

    (1 - w) * cross entropy + w * T^2 * KL(teacher || student), both softened by the temperature T
    (Hinton, Vinyals and Dean, 2015, section 2), plus ``penalty``. Without a teacher w
    is 0. Logits are (N, classes), labels int64 (N,).
    """
    logits = logits.float()
    loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if teacher_logits is not None:
        temperature, weight = recipe.teacher_temperature, recipe.teacher_weight
        distance = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            functional.log_softmax(teacher_logits.float() / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        loss = (1.0 - weight) * loss + weight * temperature**2 * distance
    if penalty is not None:
        loss = loss + penalty
    return loss


def gate_penalty(
    recipe: Recipe, module: nn.Module, epoch: float, hardness: Tensor | None = None
) -> Tensor | None:
    """The regulariser on the gates of the last forward with its weight; None without gates.

    At weight 0 too, so that a gate that is no longer finite shows. ``hardness`` (N,) of the images
    is what the regulariser of that name asks for.
    """
    if not recipe.gate:
        return None
    loss = gate_loss(module, recipe.gate_loss, hardness)
    return gate_penalty_weight(recipe, epoch) * loss


def hardness_of(logits: Tensor, labels: Tensor) -> Tensor:
    """How hard each image is: the cross entropy (N,) of ``logits`` (N, classes), a constant.

    Always finite: logits that are not make the loss itself so, which says where they come from.
    """
    found = functional.cross_entropy(logits.detach().float(), labels, reduction="none")
    return torch.nan_to_num(found)
