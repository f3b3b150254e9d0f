"""What every built-in method claims of its implementation, whatever it computes, on networks on which it is at home."""

from __future__ import annotations

from collections.abc import Iterator

from ..claims import Claim, Method, fails, holds

_OWN = "by construction: each sample is computed by itself, and batched for speed alone"
_NOTHING = "by construction: nothing is kept between calls"
_RESTORED = "by construction: hooks, modes and gradients are restored whatever happens"
_OPERATIONS = "proved here: a method of the function, or of its operations, does not know how the lines are written"
_EPSILON = "h @ W.T + b stabilises W h, and nn.Linear stabilises W h + b: the same up to O(epsilon)"

# Where a method is at home: on other families it refuses, or says little. On "any" where it is not named here.
_AT_HOME: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("lrp-0", "lrp-epsilon", "lrp-epsilon-recursion", "lrp-gamma", "lrp-composite", "clrp"), ("relu", "conv", "shared")
    ),
    **dict.fromkeys(
        ("lrp-alpha1-beta0", "lrp-alpha2-beta1", "z-plus", "excitation-backprop"), ("relu-positive", "conv")
    ),
    **dict.fromkeys(("deep-taylor", "deep-taylor-bounded", "deep-taylor-zero"), ("relu-positive",)),
    **dict.fromkeys(("deeplift-revealcancel", "cdasp", "dasp"), ("relu", "conv", "shared")),
    "deeplift-recursion": ("relu", "shared"),
    **dict.fromkeys(("patternnet", "patternnet-printed", "pattern-attribution", "pattern-attribution-printed"),
                    ("relu", "shared")),
    **dict.fromkeys(("rectgrad-tau", "rectgrad-mod-tau"),
                    ("relu(magnitude=large)", "conv(magnitude=large)", "shared(magnitude=large)")),
    "taylor-near-origin": ("relu-nobias",),
    "fullgrad": ("conv", "gap"),
    **dict.fromkeys(("lime", "kernel-shap"), ("relu", "shared")),
    "cam": ("gap",),
    **dict.fromkeys(
        ("gradcam", "gradcam-pre-relu", "gradcam-plus-plus", "gradcam-pos", "gradmid", "cumulative-gradcam",
         "cumulative-gradmid"),
        ("conv", "gap", "avgpool"),
    ),
}  # fmt: skip
# CAM reads the weights of the one linear layer, and refuses a network that has none.
_FORMS_OF = {
    "cam": tuple(f"form-invariance/{form}" for form in ("functional", "method", "in-place", "in-place-method"))
}
_STABILISED = ("lrp-epsilon", "lrp-epsilon-recursion", "lrp-composite", "clrp")


def _claims(name: str) -> Iterator[Claim]:
    for family in _AT_HOME.get(name, ("any",)):
        yield holds("batch-independence", on=family, source=_OWN)
        yield holds("repeat-determinism", on=family, source=_NOTHING)
        yield holds("purity", on=family, source=_RESTORED)
        yield holds("memory", on=family, source=_NOTHING)
        for axiom in _FORMS_OF.get(name, ("form-invariance",)):
            yield holds(axiom, on=family, source=_OPERATIONS)
        yield holds("tying-invariance", on=family, source=_OPERATIONS)
        if name in _STABILISED:
            yield fails("form-invariance/bare", on=family, reason=_EPSILON)


def with_hygiene(method: Method) -> Method:
    """A method with these claims, but for axioms of which it makes its own."""
    own = {claim.name for claim in method.claims}
    return method.but(claims=(*method.claims, *(claim for claim in _claims(method.name) if claim.name not in own)))
