"""Torch operations by name: what a function mode sees of a forward pass, whatever the form of the code.

`relu` is nn.ReLU, F.relu, torch.relu, Tensor.relu, Tensor.relu_ and aten.relu alike. The sets below sort the names by what
the operation does to values that depend on the input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import resolve_name

from ...compat.torch_parts import overload_name

LINEAR = frozenset({
    "add", "sub", "rsub", "neg", "sum", "mean", "flatten", "reshape", "view", "view_as", "unsqueeze", "squeeze",
    "permute", "transpose", "t", "movedim", "swapaxes", "swapdims", "ravel", "unflatten", "cat", "concat", "concatenate",
    "stack", "hstack", "vstack", "chunk", "split", "tensor_split", "unbind", "clone", "contiguous", "to", "type_as",
    "double", "float", "expand", "expand_as", "reshape_as", "broadcast_to", "repeat", "repeat_interleave", "tile", "gather",
    "index_select", "masked_fill", "where", "scatter", "scatter_add", "index_add", "index_put", "copy", "narrow", "select",
    "roll", "flip", "pad", "getitem", "setitem", "diagonal", "tril", "triu", "cumsum", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "interpolate", "pixel_shuffle",
    "channel_shuffle", "identity", "unfold", "fold", "positive", "alias", "_unsafe_view", "lift_fresh_copy",
    "T", "mT", "type",
})  # fmt: skip
"""Affine in all tensor arguments together (conditions and indices that depend on the input are other operations)."""

RESHAPES = frozenset({
    "reshape", "view", "flatten", "unflatten", "_unsafe_view", "ravel", "reshape_as", "view_as",
})  # fmt: skip
"""Those of LINEAR that read the entries of a tensor in order and may cut its axes elsewhere."""

WEIGHTED = frozenset({
    "linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "addmv", "einsum", "conv1d", "conv2d", "conv3d", "convolution",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear", "dot", "mv", "inner", "tensordot",
})  # fmt: skip
"""Affine as long as at most one argument depends on the input: the layers with weights."""

BILINEAR = WEIGHTED | {"mul", "outer"}

PIECEWISE = frozenset({
    "relu", "leaky_relu", "prelu", "abs", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "threshold",
    "hardsigmoid", "hardswish", "softshrink", "hardshrink", "rrelu",
})  # fmt: skip
"""Elementwise, with kinks."""

SMOOTH = frozenset({
    "tanh", "sigmoid", "softplus", "gelu", "silu", "mish", "elu", "celu", "selu", "logsigmoid", "softsign", "tanhshrink",
    "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "square", "pow", "rpow", "reciprocal", "rdiv",
    "erf", "erfc", "sin", "cos", "tan", "sinh", "cosh", "asinh", "atan",
})  # fmt: skip
"""Elementwise and differentiable (ELU and SELU but for zero)."""

MAXIMA = frozenset({
    "maximum", "minimum", "max", "min", "amax", "amin", "max_pool1d", "max_pool2d", "max_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
})  # fmt: skip

FIRST = frozenset({"to", "type_as", "view_as", "expand_as", "reshape_as"})
"""Take their values from the first argument, and only the shape, dtype or device from another."""

FRESH = frozenset({
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor",
})  # fmt: skip
"""Take no values from their arguments."""

QUIET = frozenset({
    "property", "size", "dim", "numel", "is_floating_point", "get_device", "is_complex", "__len__", "ndimension",
    "element_size", "stride", "is_contiguous", "has_names", "storage_offset", "__format__", "__repr__", "__hash__",
})  # fmt: skip
"""Read the shape or the kind of a tensor, not its values."""

_SYNONYMS = {
    "truediv": "div", "divide": "div", "true_divide": "div", "rtruediv": "rdiv", "subtract": "sub", "multiply": "mul",
    "negative": "neg", "absolute": "abs", "clip": "clamp", "expit": "sigmoid", "log_sigmoid": "logsigmoid",
    "special_expit": "sigmoid", "special_erf": "erf", "radd": "add", "rmul": "mul", "iadd": "add", "isub": "sub",
    "imul": "mul", "itruediv": "div", "idiv": "div", "ipow": "pow", "imatmul": "matmul", "_softmax": "softmax",
    "_log_softmax": "log_softmax", "prelu_kernel": "prelu", "_prelu_kernel": "prelu", "adjoint": "mT",
    "matrix_transpose": "mT",
}  # fmt: skip

# Properties that return the values of a tensor; all others tell its shape or kind.
_PROPERTIES = {"T": "T", "mT": "mT", "H": "mT", "mH": "mT", "data": "detach", "real": "alias"}

# float(z) reads a number out of the tensor; z.float() is a cast.
_CONVERSIONS = {"__float__": "item", "__int__": "item", "__bool__": "item", "__complex__": "item", "__index__": "item"}


@functools.lru_cache(maxsize=4096)
def operation_name(func: Callable[..., Any]) -> str:
    """The plain name of a torch function: add for torch.add, Tensor.add, Tensor.__add__, Tensor.__iadd__ and add_.

    A reflected operator keeps its r where the order matters (rsub, rdiv, rpow); "property" is any attribute of a tensor
    that is not its values.
    """
    full = overload_name(func).replace("::", ".") or resolve_name(func) or getattr(func, "__name__", "")
    name = full.rpartition(".")[2]
    if name == "__get__":
        return _PROPERTIES.get(full.split(".")[-2], "property")
    if name == "__set__":
        return "assignment of " + full.split(".")[-2]
    if name.startswith("__") and name.endswith("__"):
        bare = name.strip("_")
        return name if name in QUIET else _CONVERSIONS.get(name) or _SYNONYMS.get(bare, bare)
    name = name.removesuffix("_with_indices")
    name = name.rstrip("_") or name
    return _SYNONYMS.get(name, name)


def in_place(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call overwrites its first argument: relu_, add_, +=, item assignment, F.relu(z, inplace=True)."""
    return overwrites(func) or _inplace_argument(func, args, kwargs)


@functools.lru_cache(maxsize=4096)
def overwrites(func: Callable[..., Any]) -> bool:
    """Whether a function always overwrites its first argument."""
    name = overload_name(func) or getattr(func, "__name__", "")
    if name.startswith("__") and name.endswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name[3:-2] in {
            "add", "sub", "mul", "truediv", "div", "pow", "matmul",
        })  # fmt: skip
    return bool(name.endswith("_"))


# Where `inplace` stands among the arguments of torch.nn.functional's activations (and dropout).
_INPLACE = {
    "relu": 1, "relu6": 1, "selu": 1, "silu": 1, "mish": 1, "hardswish": 1, "hardsigmoid": 1, "elu": 2, "celu": 2,
    "leaky_relu": 2, "hardtanh": 3, "threshold": 3, "dropout": 3, "rrelu": 4,
}  # fmt: skip


def _inplace_argument(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if "inplace" in kwargs:
        return bool(kwargs["inplace"])
    place = _INPLACE.get(getattr(func, "__name__", "").lstrip("_"))
    return place is not None and len(args) > place and args[place] is True


def out_of_place(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with `inplace=True`, without it."""
    if "inplace" in kwargs:
        return args, {**kwargs, "inplace": False}
    return tuple(False if a is True else a for a in args), kwargs


def tensors(value: Any) -> list[Tensor]:
    """The tensors in (nested) arguments or results, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [t for item in value for t in tensors(item)]


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any = None) -> Any:
    """An argument of a call, given by position or by name."""
    return kwargs[name] if name in kwargs else args[place] if len(args) > place else default


def random_or_training(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a dropout, batch normalisation or randomised rectifier runs in training mode."""
    if name.endswith("dropout") or name in ("dropout1d", "dropout2d", "dropout3d"):
        return bool(argument(args, kwargs, 2, "training", True))
    if name == "batch_norm":
        return bool(argument(args, kwargs, 5, "training", False))
    return name == "rrelu" and bool(argument(args, kwargs, 3, "training", False))
