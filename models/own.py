"""The user's own trained network, and their own samples, as the full-model checks take them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import loading
from ..errors import UsageError, first_line
from ..loading import LogitsOnly
from .networks.text import TextModel
from .samples import Dataset, Samples


def network(name: str) -> nn.Module:
    """A copy of the user's network, in eval mode and without gradients of its parameters.

    Args:
        name: `package.module:factory`, a callable without arguments that returns an nn.Module, or the module itself.

    Raises:
        UsageError: it is not found, cannot be made, or is no nn.Module.
    """
    return loading.network(name).cpu().requires_grad_(False)


def logits_only(model: nn.Module, x: Tensor, name: str) -> tuple[nn.Module, int]:
    """A model that returns logits [B, C], and how many: the model itself where it does so.

    Args:
        model: that may return [B], or a tuple with logits first.
        x: a few samples.
        name: for errors.

    Raises:
        UsageError: it does not take the samples, or does not return logits.
    """
    try:
        with torch.no_grad():
            output = model(x)
            if not isinstance(output, Tensor) or output.dim() == 1:
                model = LogitsOnly(model).eval()
                output = model(x)
    except Exception as error:
        raise UsageError(f"{name} does not take samples of shape {tuple(x.shape[1:])}: {first_line(error)}") from error
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != len(x):
        raise UsageError(
            f"{name} maps {tuple(x.shape)} to {tuple(getattr(output, 'shape', ()))}, expected logits [B, C]"
        )
    return model, output.shape[1]


def text_model(model: nn.Module, tokens: Tensor, name: str) -> tuple[nn.Module, int]:
    """A model of texts in its two parts, between which words are attributed, and how many logits it returns.

    Args:
        model: with the parts `.embedding` and `.behind`; what it computes is behind(embedding(tokens)).
        tokens: of a few samples [B, L].
        name: for errors.

    Raises:
        UsageError: it lacks the parts, computes something else, or does not return logits.
    """
    first, second = getattr(model, "embedding", None), getattr(model, "behind", None)
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        raise UsageError(f"{name}: a model of texts has the parts .embedding and .behind; words are attributed between")
    try:
        with torch.no_grad():
            vectors = first(tokens)
    except Exception as error:
        raise UsageError(f"{name} does not take token ids {tuple(tokens.shape)}: {first_line(error)}") from error
    behind, count = logits_only(second, vectors, f"{name}, .behind")
    whole, _ = logits_only(model, tokens, name)
    made = TextModel(first, behind)
    with torch.no_grad():
        if not torch.allclose(made(tokens), whole(tokens), rtol=1e-4, atol=1e-5):
            raise UsageError(f"{name}: what it computes is not .behind of .embedding")
    return made.eval(), count


def batch(name: str) -> Dataset:
    """The user's samples as a data set: all are unseen, and all may serve to learn means and patterns.

    Values are taken as they are: the user brings them into the range that the network wants.

    Args:
        name: `package.module:batch`, a tuple (inputs, labels) or (inputs, labels, masks), or a callable without
            arguments that returns one: inputs [M, *shape], or token ids [M, L] of whole numbers; labels [M], or
            [M, C] of 0 and 1 where a sample shows several classes; masks [M, C, H, W] of 0 and 1.

    Raises:
        UsageError: it is not found, or is not that.
    """
    made = loading.made(name, "--data", tuple)
    if not isinstance(made, tuple | list) or len(made) not in (2, 3):
        raise UsageError(f"--data {name} is no (inputs, labels): a check needs to know which predictions are right")
    x, labels, *rest = (_tensor(part, name) for part in made)
    if x.dim() < 2 or not len(x) or len(labels) != len(x):
        raise UsageError(f"--data {name}: inputs {tuple(x.shape)} and labels {tuple(labels.shape)} do not fit together")
    text = x.dim() == 2 and x.dtype == torch.int64
    x = x if text else x.float()
    if not torch.isfinite(x).all():
        raise UsageError(f"--data {name} holds values that are not finite")
    if (
        labels.dim() > 2
        or (labels != labels.long()).any()
        or (labels < 0).any()
        or (labels.dim() == 2 and labels.max() > 1)
    ):
        raise UsageError(f"--data {name}: labels are whole numbers from 0 on [M], or 0 and 1 for each class [M, C]")
    masks = rest[0].bool() if rest else None
    if labels.dim() == 2:
        if not labels.any(1).all():
            raise UsageError(f"--data {name}: a sample shows no class")
        samples = Samples.of_classes(x, labels.bool(), masks)
    else:
        samples = Samples.of_one_class(x, labels.long(), int(labels.max()) + 1)
        samples = Samples(x, samples.labels, samples.present, masks)
    if masks is not None and (masks.dim() != 4 or len(masks) != len(x) or masks.shape[2:] != x.shape[-2:]):
        raise UsageError(
            f"--data {name}: masks {tuple(masks.shape)} do not fit inputs {tuple(x.shape)}, expected [M, C, H, W]"
        )
    count = samples.present.shape[1]
    return Dataset(
        name=name,
        classes=tuple(str(k) for k in range(count)),
        shape=tuple(x.shape[1:]),
        bounds=(float(x.min()), float(x.max())),
        kind="text" if text else "scene" if labels.dim() == 2 else "image",
        group_axis=-1 if text else 0 if x.dim() == 4 else None,
        train=Samples(samples.x, samples.labels, samples.present),
        test=samples,
        source="the user's",
        needed=0.5,
        why="a model that is wrong on half of its samples is not what a check should judge methods by",
        partial=True,
    )


def with_classes(found: Dataset, count: int, model: str) -> Dataset:
    """A batch with all classes of a model: its labels need not reach the last one.

    Raises:
        UsageError: the batch has more classes than the model, or says of each class whether a sample shows it and has
            another number of them.
    """
    if found.n_classes == count:
        return found
    if count == 1 and found.n_classes == 2 and found.kind != "scene":
        return _of_one_logit(found)
    if ":" not in found.name or found.n_classes > count or found.kind == "scene":
        raise UsageError(f"--model {model} has {count} classes, --data {found.name} has {found.n_classes}")
    train, test = (
        replace(
            part,
            present=nn.functional.pad(part.present, (0, count - found.n_classes)),
            masks=None
            if part.masks is None
            else nn.functional.pad(part.masks, (0, 0, 0, 0, 0, count - part.masks.shape[1])),
        )
        for part in (found.train, found.test)
    )
    return replace(found, classes=tuple(str(k) for k in range(count)), train=train, test=test)


def _of_one_logit(found: Dataset) -> Dataset:
    """Data of two classes for a model with one logit, which is that of the second: it is in a sample or is not."""
    train, test = (
        replace(part, labels=torch.zeros_like(part.labels), present=part.labels[:, None] == 1, masks=None)
        for part in (found.train, found.test)
    )
    return replace(found, classes=found.classes[1:], train=train, test=test)


def _tensor(part: Any, name: str) -> Tensor:
    """Whole numbers as int64, everything else as float32."""
    try:
        found = torch.as_tensor(np.asarray(part) if isinstance(part, list | tuple) else part).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"--data {name} is not made of tensors or arrays: {first_line(error)}") from error
    return found.float() if found.is_floating_point() else found.long()
