"""What built-in methods claim of the full-model checks: one row for each argument, with the methods that it settles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..claims import Claim, Method, fails, holds


@dataclass(frozen=True)
class _Row:
    """Claims of several methods for one reason.

    kind     "holds" or "fails"
    checks   "name" or "name/variant", separated by blanks
    methods  separated by blanks
    why      the paper, or the argument
    on       a model, "model:data", or "any"
    """

    kind: str
    checks: str
    methods: str
    why: str
    on: str = "any"

    def claims(self) -> Iterator[Claim]:
        for check in self.checks.split():
            if self.kind == "holds":
                yield holds(f"sanity/{check}", on=self.on, source=self.why)
            else:
                yield fails(f"sanity/{check}", on=self.on, reason=self.why)


_SHIFTS = "input-invariance/constant input-invariance/checkerboard input-invariance/planted"
_UNEVEN = "input-invariance/checkerboard input-invariance/planted"
_KINDERMANS = "Kindermans et al. 2017, section 3"
_POSITIVE = (
    "all but positive contributions are lost on the way back: Khakzar et al. 2020, section 4 and Figures 4 and 6"
)

_TABLE = (
    # randomised parameters, other classes
    _Row("holds", "parameter-randomization/cascade class-sensitivity", "gradient gradcam",
         "Adebayo et al. 2018, section 3; Khakzar et al. 2020, Tables 2 and 4, Figure 4"),
    _Row("fails", "parameter-randomization/cascade class-sensitivity",
         "lrp-alpha1-beta0 z-plus excitation-backprop deep-taylor", _POSITIVE),
    _Row("fails", "parameter-randomization/cascade", "guided-backprop rectgrad", _POSITIVE),
    _Row("fails", "pointing-game/restricted", "guided-backprop rectgrad lrp-alpha1-beta0",
         "one map for all classes points to one object: Khakzar et al. 2020, Table 3"),
    _Row("holds", "pointing-game/pointing pointing-game/restricted", "gradcam", "Khakzar et al. 2020, Table 1"),
    # shifted inputs
    _Row("holds", _SHIFTS, "gradient saliency guided-backprop patternnet", f"{_KINDERMANS}.2, Figure 2"),
    _Row("holds", _SHIFTS, "pattern-attribution", f"{_KINDERMANS}.3, Figure 3; with E+[y], which the shift leaves"),
    _Row("holds", _SHIFTS, "deconvnet rectgrad rectgrad-mod", "it reads gradients and activations, which the shift leaves"),
    _Row("holds", _SHIFTS, "gradcam gradcam-pre-relu gradcam-plus-plus gradcam-pos gradmid",
         "it reads an inner layer, which the shift leaves"),
    _Row("holds", _SHIFTS,
         "integrated-gradients integrated-gradients-mean deeplift occlusion-1 box-occlusion shapley-sampling",
         "its reference is moved with the input"),
    _Row("holds", "input-invariance/constant", "integrated-gradients-min", f"{_KINDERMANS}.3, Figure 3: black stays black"),
    _Row("fails", _UNEVEN, "integrated-gradients-min",
         f"one value for all pixels does not follow m: {_KINDERMANS}.3, Figure 5"),
    _Row("fails", _SHIFTS, "gradient-times-input integrated-gradients-zero deep-taylor-zero",
         f"it refers to zero, which is another image after the shift: {_KINDERMANS}.3, Figures 3, 5 and 6"),
    _Row("fails", _SHIFTS, "lrp-0 lrp-epsilon lrp-gamma lrp-alpha1-beta0 z-plus cgi clrp fullgrad-complete",
         "it multiplies by the input, which is another after the shift"),
    _Row("fails", _SHIFTS, "patternnet-printed pattern-attribution-printed",
         "the printed patterns change by m (E+[y] - E[y]) / ...; only those with E+[y] in both terms do not"),
    _Row("holds", "input-invariance/constant", "smoothgrad", f"{_KINDERMANS}.4, Figure 4: as its base, for one noise"),
    _Row("fails", "input-invariance/checkerboard", "smoothgrad", "its noise is relative to max x - min x, which m changes"),
    # labels that compete, permuted labels
    _Row("holds", "competition/randomization competition/data-randomization", "gradient-times-input",
         "Gupta and Arora 2019, Figures 5, 7, 8 and 10"),
    # continuity
    _Row("holds", "continuity", "occlusion-1 box-occlusion shapley-sampling",
         "it is made of outputs, which are continuous: Ancona et al. 2019, section 2.4"),
    _Row("fails", "continuity", "gradient saliency gradient-times-input lrp-0 guided-backprop",
         "crossing a kink changes the gradient at once: Ancona et al. 2019, Table 2", on="mnist-cnn:digits"),
)  # fmt: skip

_BY_METHOD: dict[str, tuple[Claim, ...]] = {
    name: tuple(claim for row in _TABLE if name in row.methods.split() for claim in row.claims())
    for name in dict.fromkeys(name for row in _TABLE for name in row.methods.split())
}


def with_sanity(method: Method) -> Method:
    """A built-in method with these claims."""
    return method.but(claims=(*method.claims, *_BY_METHOD.get(method.name, ())))


NAMES = frozenset(_BY_METHOD)
"""The methods that the table speaks of."""
