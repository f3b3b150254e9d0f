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

_DEPENDS = "parameter-randomization/cascade parameter-randomization/independent data-randomization class-sensitivity"
_REMOVED = "region-perturbation region-perturbation/blocks region-perturbation/input"
_SALIENT = "the sign of a derivative is not that of a contribution: Ancona et al. 2018, section 3"
_COMPLETE = (
    "gradient-times-input lrp-0 lrp-epsilon integrated-gradients integrated-gradients-zero deeplift deep-taylor-zero"
)
_CNN, _MLP, _SCENES = "mnist-cnn:digits", "mnist-mlp:digits", "small-vgg:scenes"

_TABLE = (
    # other parameters, other labels, other classes
    _Row("holds", _DEPENDS, "gradient saliency gradient-times-input",
         "it is the derivative, or that in units of the input: what maps are held against"),
    _Row("holds", _DEPENDS, "lrp-0 lrp-epsilon integrated-gradients integrated-gradients-zero deeplift deep-taylor-zero",
         "Adebayo et al. 2018, section 4; Khakzar et al. 2020, Figure 4 (LRP-0)", on=_CNN),
    _Row("holds", _DEPENDS, "gradcam",
         "Adebayo et al. 2018, section 4; Khakzar et al. 2020, Tables 2 and 4, Figure 4", on=_CNN),
    _Row("fails", _DEPENDS, "guided-backprop rectgrad lrp-alpha1-beta0 z-plus excitation-backprop deep-taylor", _POSITIVE,
         on=_CNN),
    _Row("fails", _DEPENDS, "gradcam-plus-plus gradcam-pos", "weights of maps are sums of positive gradients: Khakzar et al. "
         "2020, section 4", on=_CNN),
    _Row("holds", "pointing-game/pointing pointing-game/restricted", "gradcam cam gradient gradient-times-input",
         "Khakzar et al. 2020, Tables 1 and 3; cam is gradcam behind global average pooling", on=_SCENES),
    _Row("holds", "pointing-game/pointing", "guided-backprop rectgrad lrp-alpha1-beta0 fullgrad",
         "Khakzar et al. 2020, Tables 1 and 3", on=_SCENES),
    # shifted inputs
    _Row("holds", _SHIFTS, "gradient saliency guided-backprop patternnet", f"{_KINDERMANS}.2, Figure 2"),
    _Row("holds", _SHIFTS, "pattern-attribution", f"{_KINDERMANS}.3, Figure 3; with E+[y], which the shift leaves"),
    _Row("holds", _SHIFTS, "deconvnet rectgrad rectgrad-mod rectgrad-percentile",
         "it reads gradients and activations, which the shift leaves"),
    _Row("holds", _SHIFTS, "deep-taylor", "squares of weights share out what reaches the input, which the shift leaves"),
    _Row("holds", _SHIFTS, "gradcam gradcam-pre-relu gradcam-plus-plus gradcam-pos gradmid",
         "it reads an inner layer, which the shift leaves"),
    _Row("holds", _SHIFTS,
         "integrated-gradients integrated-gradients-mean deeplift deeplift-revealcancel occlusion-1 box-occlusion "
         "shapley-sampling", "its reference is moved with the input"),
    _Row("holds", "input-invariance/constant", "integrated-gradients-min", f"{_KINDERMANS}.3, Figure 3: black stays black"),
    _Row("fails", _UNEVEN, "integrated-gradients-min",
         f"one value for all pixels does not follow m: {_KINDERMANS}.3, Figure 5"),
    _Row("fails", _SHIFTS, "gradient-times-input integrated-gradients-zero deep-taylor-zero",
         f"it refers to zero, which is another image after the shift: {_KINDERMANS}.3, Figures 3, 5 and 6"),
    _Row("fails", _SHIFTS, "lrp-0 lrp-epsilon lrp-gamma lrp-alpha1-beta0 lrp-alpha2-beta1 lrp-composite z-plus "
         "excitation-backprop taylor-near-origin cgi clrp fullgrad-complete",
         "it multiplies by the input, which is another after the shift"),
    _Row("fails", _SHIFTS, "patternnet-printed pattern-attribution-printed",
         "the printed patterns change by m (E+[y] - E[y]) / ...; only those with E+[y] in both terms do not"),
    _Row("holds", "input-invariance/constant", "smoothgrad", f"{_KINDERMANS}.4, Figure 4: as its base, for one noise"),
    _Row("fails", "input-invariance/checkerboard", "smoothgrad", "its noise is relative to max x - min x, which m changes"),
    # what removing features does
    _Row("holds", "sensitivity-n", f"{_COMPLETE} occlusion-1", "Ancona et al. 2018, Figure 4", on=_MLP),
    _Row("holds", _REMOVED, f"{_COMPLETE} occlusion-1", "Ancona et al. 2018, Figure 3", on=_CNN),
    _Row("fails", "sensitivity-n", "gradient guided-backprop deconvnet rectgrad smoothgrad", _SALIENT, on=_MLP),
    _Row("fails", _REMOVED, "gradient guided-backprop deconvnet rectgrad smoothgrad", _SALIENT, on=_CNN),
    # labels that compete
    _Row("holds", "competition/randomization competition/data-randomization competition/evidence",
         "gradient-times-input lrp-0 cgi clrp", "Gupta and Arora 2019, Figures 5, 7, 8 and 10", on=_CNN),
    _Row("holds", "competition/approximate-completeness competition/competed-completeness", f"{_COMPLETE} cgi clrp",
         "Gupta and Arora 2019, section 3 and Theorem 1", on=_CNN),
    _Row("fails", "competition/approximate-completeness competition/competed-completeness",
         "gradient guided-backprop deconvnet rectgrad", "a derivative adds up to no logit", on=_CNN),
    # continuity
    _Row("holds", "continuity", "occlusion-1 box-occlusion shapley-sampling",
         "it is made of outputs, which are continuous: Ancona et al. 2019, section 2.4"),
    _Row("fails", "continuity", "gradient saliency gradient-times-input lrp-0 guided-backprop",
         "crossing a kink changes the gradient at once: Ancona et al. 2019, Table 2", on=_CNN),
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
