"""GradCAM and its kin: layers found in any form of the code, worked values, equalities, options and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attribcheck.errors import Unsupported, UsageError
from attribcheck.methods.backprop.layers import layers_of
from attribcheck.methods.cam import cam
from attribcheck.methods.gradcam import gradcam, gradcam_map, gradcam_plus_plus, gradcam_pre_relu
from attribcheck.methods.gradcam_variants import cumulative_gradcam, cumulative_gradmid, gradcam_pos, gradmid, rescaled
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg16

T0 = torch.tensor([0])


class Net(nn.Module):
    """Two blocks of convolution, ReLU and pooling, the mean over space and a linear layer, in a chosen form."""

    def __init__(self, rectify: Callable[[Tensor], Tensor] = F.relu, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.head = nn.Conv2d(4, 5, 3), nn.Linear(5, 3)
        self.pool, self.relu, self.end = nn.MaxPool2d(2), nn.ReLU(), nn.ReLU()
        self.rectify = rectify
        self.double().eval()
        with torch.no_grad():
            self.norm.running_mean.normal_()  # type: ignore[union-attr, operator]

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.rectify(self.norm(self.first(x))))
        return self.head(self.rectify(self.second(h)).mean((2, 3)))


def points(seed: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(2, 2, 10, 12, dtype=torch.float64), torch.tensor([0, 2])


@pytest.mark.parametrize(
    "rectify",
    [nn.ReLU(), F.relu_, torch.relu, Tensor.relu, Tensor.relu_, nn.ReLU(inplace=True), lambda z: z.clamp(min=0),
     lambda z: torch.maximum(z, torch.zeros(())), torch.ops.aten.relu.default],
)  # fmt: skip
def test_the_last_layer_is_found_in_any_form(rectify: Any) -> None:
    x, target = points()
    for layer in ("last", "B1", "B2", "all"):
        for got, expected in zip(
            layers_of("t", Net(rectify), x, target, layer), layers_of("t", Net(), x, target, layer), strict=True
        ):
            torch.testing.assert_close(got.activation, expected.activation)
            torch.testing.assert_close(got.gradient, expected.gradient)


def test_named_modules_and_blocks() -> None:
    class Modules(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.pool(self.relu(self.norm(self.first(x))))
            return self.head(self.end(self.second(h)).mean((2, 3)))

    x, target = points()
    net = Modules()
    for name, alias in (("relu", "B1"), ("end", "B2")):
        (a,), (b,) = layers_of("t", net, x, target, name), layers_of("t", net, x, target, alias)
        torch.testing.assert_close(a.activation, b.activation)
        torch.testing.assert_close(a.gradient, b.gradient)
    (norm,) = layers_of("t", net, x, target, "norm")
    torch.testing.assert_close(norm.activation, net.norm(net.first(x)).detach())
    assert not net.norm._forward_hooks
    with pytest.raises(UsageError, match=r"no layer 'norn'.*'norm'"):
        gradcam(net, x, target, layer="norn")
    with pytest.raises(Unsupported, match="2 blocks"):
        gradcam(net, x, target, layer="B3")
    with pytest.raises(Unsupported, match=r"can be laid"):
        gradcam(net, x, target, layer="head")


def test_a_module_that_is_called_twice_is_not_clear() -> None:
    x, target = points()
    relu = nn.ReLU()
    with pytest.raises(Unsupported, match="2 times"):
        gradcam(Net(relu), x, target, layer="rectify")


def test_values_are_kept_before_they_are_overwritten() -> None:
    class Overwrites(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = F.conv2d(x, torch.ones(1, 1, 1, 1, dtype=x.dtype))
            h += 1.0
            return h.flatten(1)[:, :1]

    (layer,) = layers_of("t", Overwrites(), torch.full((1, 1, 2, 2), 3.0), T0)
    assert layer.activation.flatten().tolist() == [3.0] * 4
    assert layer.gradient.flatten().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_branches_that_are_concatenated_are_one_layer() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.cut = nn.Conv1d(1, 2, 3, padding=1), nn.Conv1d(1, 3, 1), nn.Identity()
            self.head = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cut(torch.cat([self.a(x).relu(), self.b(x).relu()], 1)).mean(2))

    net, x = Branches().double(), torch.randn(2, 1, 6, dtype=torch.float64)
    target = torch.tensor([0, 1])
    for each in (gradcam, gradcam_pre_relu, gradcam_plus_plus, gradcam_pos, gradmid):
        torch.testing.assert_close(each(net, x, target), each(net, x, target, layer="cut"))


def one(values: list[float], head: list[float]) -> nn.Module:
    """ReLU of the input (by a 1x1 convolution), and a flat linear head."""
    n = len(values)
    net = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(n, 1, bias=False))
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    net[3].weight.data = torch.tensor([head])
    return net.double()


def test_worked_values() -> None:
    values, head = [1.0, 3.0], [2.0, -1.0]
    net, x = one(values, head), torch.tensor([[values]], dtype=torch.float64)
    assert gradcam(net, x, T0).tolist() == [[[0.5, 1.5]]]  # the mean of the gradient is 1/2
    assert gradcam_pos(net, x, T0).tolist() == [[[1.5, 4.5]]]  # (2 + 1) / 2
    assert gradcam_pos(net, x, T0, absolute=False).tolist() == [[[1.0, 3.0]]]
    assert gradcam_pos(net, x, T0, means=True).tolist() == [[[0.5, 1.5]]]
    assert gradmid(net, x, T0).tolist() == [[[2.0, 0.0]]]
    assert gradmid(net, x, T0, absolute=True).tolist() == [[[2.0, 1.0]]]
    # a = 4 / (2 * 4 + 8 * 4) = 1/10, w = 2 a
    torch.testing.assert_close(gradcam_plus_plus(net, x, T0), 0.2 * x)


def test_upsampling_is_linear_with_half_pixel_centres() -> None:
    net = nn.Sequential(nn.Conv1d(2, 1, 2, stride=2, bias=False), nn.Flatten(), nn.Linear(2, 1, bias=False)).double()
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    nn.init.ones_(net[2].weight)  # type: ignore[arg-type]
    x = torch.tensor([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    assert gradcam_map(net, x, T0).tolist() == [[0.0, 4.0]]
    assert gradcam(net, x, T0).tolist() == [[[0.0, 1.0, 3.0, 4.0]] * 2]


def test_words_of_a_transposed_sequence() -> None:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv1d(3, 4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x.transpose(1, 2)).relu().amax(2))

    x = torch.randn(2, 5, 3, dtype=torch.float64)
    result = gradcam_pos(Text().double(), x, torch.tensor([0, 1]))
    assert result.shape == x.shape
    assert bool((result == result[..., :1]).all()) and not bool((result == result[:, :1]).all())


def test_cam_and_completeness_of_the_raw_map() -> None:
    net, (x, target) = Net(), points()
    torch.testing.assert_close(cam(net, x, target), gradcam_pre_relu(net, x, target))
    f = net(x).gather(1, target[:, None])[:, 0]
    raw = gradcam_map(net, x, target, relu=False)
    torch.testing.assert_close(raw.flatten(1).sum(1), (f - net.head.bias[target]).detach())
    assert bool((gradcam_map(net, x, target) == raw.clamp(min=0)).all())


def test_block_names_of_vgg_16() -> None:
    torch.manual_seed(0)
    net = vgg16(weights=None).eval()
    x = torch.randn(1, 3, 32, 32)
    for block, name in enumerate((3, 8, 15, 22, 29), start=1):
        (a,), (b,) = (layers_of("t", net, x, T0, layer) for layer in (f"B{block}", f"features.{name}"))
        torch.testing.assert_close(a.activation, b.activation)
        torch.testing.assert_close(a.gradient, b.gradient)
    (last,) = layers_of("t", net, x, T0)
    torch.testing.assert_close(last.gradient, layers_of("t", net, x, T0, "B5")[0].gradient)


def test_captum_has_the_same_map() -> None:
    attr = pytest.importorskip("captum.attr")
    net, (x, target) = Net(nn.ReLU()), points()
    for relu in (False, True):
        theirs = attr.LayerGradCam(net, net.norm).attribute(x, target, relu_attributions=relu)[:, 0]
        torch.testing.assert_close(gradcam_map(net, x, target, layer="norm", relu=relu), theirs.detach())


def test_cumulative_maps_are_sums_over_layers() -> None:
    class Modules(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.pool(self.relu(self.norm(self.first(x))))
            return self.head(self.end(self.second(h)).mean((2, 3)))

    net, (x, target) = Modules(), points()
    layers = ("relu", "end")
    total = sum(gradcam_pos(net, x, target, layer=layer) for layer in layers)
    torch.testing.assert_close(cumulative_gradcam(net, x, target), total)
    total = sum(gradmid(net, x, target, layer=layer) for layer in layers)
    torch.testing.assert_close(cumulative_gradmid(net, x, target), total)
    assert float(cumulative_gradmid(net, x, target, rescale=True).max()) <= 2.0


def test_rescaling() -> None:
    assert rescaled(torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])).tolist() == [[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]


class _Cut(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.how = nn.Conv1d(1, 1, 1), how

    def forward(self, x: Tensor) -> Tensor:
        match self.how:
            case "no-grad":
                with torch.no_grad():
                    h = self.conv(x)
            case "detach":
                h = self.conv(x).detach() + self.conv(x)
            case "lost":
                h = self.conv(x.flatten(1)[:, [2, 0, 1]].reshape(x.shape))
            case _:
                h = self.conv(x)
        return h.flatten(1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), "no convolution"),
        (_Cut("no-grad"), "switches gradients off"),
        (_Cut("detach"), "out of the gradient"),
        (_Cut("lost"), "laid over the input"),
    ],
)
def test_refusals(model: nn.Module, message: str) -> None:
    for each in (
        gradcam,
        gradcam_pre_relu,
        gradcam_plus_plus,
        gradcam_pos,
        gradmid,
        cumulative_gradcam,
        cumulative_gradmid,
    ):
        with pytest.raises(Unsupported, match=message):
            each(model, torch.ones(1, 1, 3), T0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_scripted_models_are_refused() -> None:
    with pytest.raises(Unsupported, match="scripted"):
        gradcam(torch.jit.script(nn.Conv1d(1, 1, 1)), torch.ones(1, 1, 3), T0)


def test_a_pole_of_gradcam_plus_plus_is_refused() -> None:
    net = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(2, 1)).double()
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    nn.init.ones_(net[2].weight)  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match="pole"):
        gradcam_plus_plus(net, torch.full((1, 1, 2), -1.0, dtype=torch.float64), T0)


@pytest.mark.parametrize("pooled", ["flat", "max", "hidden"])
def test_cam_needs_its_architecture(pooled: str) -> None:
    class Other(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.rectify(self.second(self.pool(self.rectify(self.first(x)))))
            means = h.amax((2, 3)) if pooled == "max" else h.mean((2, 3))
            return self.head(means if pooled != "flat" else h[:, :, 0, 0]) * (2.0 if pooled == "hidden" else 1.0)

    with pytest.raises(Unsupported, match="global average pooling"):
        cam(Other(), *points())


def test_parameters_and_hooks_stay() -> None:
    net, (x, target) = Net(), points()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gradcam(net, x, target, layer="norm")
    assert all(bool((value == before[name]).all()) for name, value in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
