"""What Kindermans et al. 2017 report of each method under the three shifts of the input."""

from __future__ import annotations

from collections.abc import Mapping

INVARIANT, NOT = "invariant", "not invariant"

_FIGURES_2_TO_4 = {
    "gradient": ("Figure 2", INVARIANT),
    "guided-backprop": ("Figure 2", INVARIANT),
    "patternnet": ("Figure 2", INVARIANT),
    "gradient-times-input": ("Figure 3", NOT),
    "integrated-gradients-zero": ("Figure 3", NOT),
    "integrated-gradients-min": ("Figure 3", INVARIANT),
    "lrp-0": ("Figure 3", NOT),
    "deep-taylor-zero": ("Figure 3", NOT),
    "pattern-attribution": ("Figure 3", INVARIANT),
    "smoothgrad": ("Figure 4", INVARIANT),
    "smoothgrad(gradient)": ("Figure 4", INVARIANT),
    "smoothgrad(guided-backprop)": ("Figure 4", INVARIANT),
    "smoothgrad(pattern-attribution)": ("Figure 4", INVARIANT),
    "smoothgrad(integrated-gradients-min)": ("Figure 4", INVARIANT),
    "smoothgrad(integrated-gradients-zero)": ("Figure 4", NOT),
    "smoothgrad(lrp-0)": ("Figure 4", NOT),
    "smoothgrad(deep-taylor-zero)": ("Figure 4", NOT),
    "smoothgrad(gradient-times-input)": ("Figure 4", NOT),
}
_FIGURES_5_AND_6 = {
    "gradient-times-input": NOT,
    "integrated-gradients-zero": NOT,
    "integrated-gradients-min": NOT,
    "lrp-0": NOT,
    "deep-taylor-zero": NOT,
    "pattern-attribution": INVARIANT,
}


def reported(variant: str, method: str) -> Mapping[str, str] | None:
    """Source and value for a method under "constant", "checkerboard" or "planted"; None where the paper shows none."""
    if variant == "constant":
        found = _FIGURES_2_TO_4.get(method)
    else:
        value = _FIGURES_5_AND_6.get(method)
        found = None if value is None else ("Figure 5" if variant == "checkerboard" else "Figure 6", value)
    return None if found is None else {"source": f"Kindermans et al. 2017, {found[0]}", "value": found[1]}
