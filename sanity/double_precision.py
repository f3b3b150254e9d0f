"""The same study in float64, where the rounding of float32 would be taken for what a check looks for."""

from __future__ import annotations

import copy
from dataclasses import replace

from .outcome import NotApplicable
from .study import Study


def in_double(study: Study) -> Study:
    """A study of the same method on a float64 copy of the model and the samples.

    The samples keep their float32 values. In float32 a pre-activation near zero may round to the other side of a ReLU: with
    thousands of units and some images, a map differs by a per cent now and then between two networks that are one function.

    Raises:
        NotApplicable: the model does not compute in float64.
    """
    subject = study.subject
    model = copy.deepcopy(subject.model).double()
    doubled = replace(subject, model=model, x=subject.x.double(), data=subject.data.double())
    found = Study(doubled, study.method, study.scale, study.seed, study.device)
    try:
        found.logits(doubled.x[:1])
    except RuntimeError as error:
        raise NotApplicable("the model does not compute in float64") from error
    return found
