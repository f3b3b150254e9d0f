"""One network, written in other ways: activations as functions, methods or in place, weights as bare parameters."""

from __future__ import annotations

from .layers.kinds import kind_of
from .spec import Layer, Network

FORMS: dict[str, tuple[str, str]] = {
    "functional": (
        "activations and dense layers as functions: torch.relu(z), F.linear(h, self.w, self.b)",
        "functional",
    ),
    "method": ("activations as methods of the tensor: z.relu()", "method"),
    "in-place": ("activations that overwrite what they read: nn.ReLU(inplace=True)", "in-place"),
    "in-place-method": ("activations that overwrite what they read: z.relu_()", "in-place method"),
    "bare": ("weights that are parameters of the network itself: h @ self.w.T + self.b", "bare"),
}
"""Each way of writing with what it means and the form that it gives a layer."""

MODULE = "module"

# Layers whose result is a tensor of its own that their derivative does not need.
_OVERWRITTEN = ("linear", "conv", "batchnorm", "layernorm", "groupnorm", "add", "sub", "mul", "avgpool", "maxpool")


def _may_overwrite(network: Network, layer: str) -> bool:
    """Whether every call of a layer may write into its input: nobody else reads it, nor needs it for a derivative."""
    for call in network.calls_of(layer):
        (read,) = call.inputs
        if read == "x" or len(network.consumers(read)) > 1 or not network.layer_of(read).kind.startswith(_OVERWRITTEN):
            return False
    return True


def takes(network: Network, name: str, form: str) -> bool:
    """Whether a layer of the network can be written in a form (a value of the setting "form")."""
    layer = network.layers[name]
    if form == layer.get("form", MODULE) or form not in kind_of(layer).forms:
        return False
    return not form.startswith("in-place") or _may_overwrite(network, name)


def written(network: Network, way: str) -> Network | None:
    """The network with every layer that can be written so written that way; None where there is none.

    Args:
        way: a key of FORMS.
    """
    form = FORMS[way][1]
    # What has no module that overwrites has a method that does, and the other way round.
    others = {"in-place": "in-place method", "in-place method": "in-place"}
    changed: dict[str, Layer] = {}
    for name, layer in network.layers.items():
        fitting = [f for f in (form, others.get(form)) if f is not None and takes(network, name, f)]
        if fitting:
            changed[name] = layer.but(form=fitting[0])
    return network.with_layers(**changed) if changed else None
