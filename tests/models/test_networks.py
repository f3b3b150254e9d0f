"""The architectures: layers as the papers print them, equality with torch's own, and what methods make of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attribcheck import get_method
from attribcheck.errors import Unsupported, UsageError
from attribcheck.models.architectures import ARCHITECTURES, architecture, fitting
from attribcheck.models.data import handwritten_digits, sentiment
from attribcheck.models.networks.text import TextModel, VisibleLSTM
from attribcheck.models.preparation import IMAGENET_MEAN, Preparation
from attribcheck.models.training import blank, build
from torch import Tensor, nn


def layers(model: nn.Module) -> list[str]:
    """The layers with what the papers' tables say of them."""
    words = {
        nn.Conv2d: lambda m: f"conv {m.out_channels} {m.kernel_size[0]}x{m.kernel_size[1]}",
        nn.Linear: lambda m: f"dense {m.out_features}",
        nn.MaxPool2d: lambda m: f"pool {m.kernel_size}",
        nn.Dropout: lambda m: f"dropout {m.p}",
        nn.Embedding: lambda m: f"embedding {m.num_embeddings}x{m.embedding_dim}",
    }
    described: list[Any] = [words.get(type(m), lambda m: type(m).__name__.lower())(m) for m in model.modules()]
    return [layer for layer in described if layer not in ("sequential", "flatten", "textmodel")]


@pytest.mark.parametrize("unit", ["relu", "tanh", "sigmoid", "softplus"])
def test_the_networks_for_mnist_are_those_of_the_table(unit: str) -> None:
    option = "" if unit == "relu" else f"({unit})"
    mlp = architecture(f"mnist-mlp{option}")
    assert layers(mlp.factory((1, 28, 28), 10, **mlp.options)) == [
        "dense 512", unit, "dense 512", unit, "dense 10",
    ]  # fmt: skip
    cnn = architecture(f"mnist-cnn{option}")
    assert layers(cnn.factory((1, 28, 28), 10, **cnn.options)) == [
        "conv 32 3x3", unit, "conv 64 3x3", unit, "pool 2", "dense 128", unit, "dense 10",
    ]  # fmt: skip
    assert mlp.name == f"mnist-mlp{option}"


def test_the_other_trained_networks_are_those_of_the_papers() -> None:
    block = ["dropout 0.25"]
    assert layers(ARCHITECTURES["cifar-cnn"].factory((3, 32, 32), 10)) == [
        "conv 32 3x3", "relu", "conv 32 3x3", "relu", "pool 2", *block,
        "conv 64 3x3", "relu", "conv 64 3x3", "relu", "pool 2", *block,
        "dense 256", "relu", "dropout 0.5", "dense 10",
    ]  # fmt: skip
    assert layers(ARCHITECTURES["mlp-3x1024"].factory((1, 28, 28), 10)) == ["dense 1024", "relu"] * 3 + ["dense 10"]
    assert layers(ARCHITECTURES["imdb-mlp"].factory((500,), 2)) == [
        "embedding 5000x32", "dense 250", "relu", "dense 2",
    ]  # fmt: skip
    lstm = ARCHITECTURES["imdb-lstm"].factory((500,), 2)
    assert lstm.get_submodule("behind.0").units == 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_visible_gates_compute_what_torch_does(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mine, fused = VisibleLSTM(5, 7).to(dtype).eval(), nn.LSTM(5, 7, batch_first=True).to(dtype)
    with torch.no_grad():
        fused.weight_ih_l0.copy_(mine.input.weight)
        fused.weight_hh_l0.copy_(mine.state.weight)
        fused.bias_ih_l0.copy_(mine.input.bias)
        fused.bias_hh_l0.zero_()
    x = torch.randn(4, 9, 5, dtype=dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    expected = fused(x)[0][:, -1]
    assert torch.allclose(mine(x), expected, rtol=0, atol=tolerance)
    assert torch.allclose(mine.train()(x), expected, rtol=0, atol=tolerance)


def test_a_text_model_is_what_is_behind_the_embedding_of_the_words() -> None:
    dataset = sentiment.load(20, 10)
    for name in ("imdb-mlp", "imdb-lstm"):
        model = build(architecture(name), dataset).eval()
        assert isinstance(model, TextModel)
        vectors = model.embedding(dataset.test.x)
        assert vectors.shape == (10, 24, 32)
        assert not vectors[dataset.test.x == 0].any()
        assert torch.equal(model(dataset.test.x), model.behind(vectors))


METHODS = (
    "gradient-times-input", "integrated-gradients", "lrp-epsilon", "lrp-alpha1-beta0", "deeplift", "guided-backprop",
    "occlusion-1", "smoothgrad",
)  # fmt: skip


@pytest.mark.parametrize("name", ["imdb-mlp", "imdb-lstm"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_see_the_gates_of_the_text_models(name: str, method: str) -> None:
    model = build(architecture(name), sentiment.load(4, 2)).eval().requires_grad_(False).get_submodule("behind")
    x = torch.randn(2, 24, 32, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1])
    chosen = get_method(method)
    baseline = torch.zeros_like(x) if chosen.baseline else None
    if name == "imdb-lstm" and method.startswith("lrp"):
        with pytest.raises(Unsupported, match="mul of two values"):
            chosen.function(model, x, target, baseline)
        return
    attribution: Tensor = chosen.function(model, x, target, baseline)
    assert attribution.shape == x.shape
    assert attribution.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_alexnet_takes_one_channel_or_three(channels: int) -> None:
    with torch.device("meta"):
        model = ARCHITECTURES["alexnet"].factory((channels, 64, 64), 10).eval()
        assert model(torch.zeros(2, channels, 64, 64)).shape == (2, 10)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert (first.in_channels, first.kernel_size, first.stride, first.padding) == (channels, (11, 11), (4, 4), (2, 2))


@pytest.mark.parametrize(
    ("name", "weights", "size"),
    [
        ("vgg16", 32, 224),
        ("vgg19", 38, 224),
        ("inception-v3", 94 * 6 + 2, 299),
        ("resnet50", 320, 224),
        ("alexnet", 16, 224),
    ],
)
def test_full_size_networks_have_the_weights_of_torchvision(name: str, weights: int, size: int) -> None:
    found = ARCHITECTURES[name]
    with torch.device("meta"):
        model = found.factory((3, size, size), 1000).eval()
        logits = model(torch.zeros(2, 3, size, size))
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 1000)
    assert len(model.state_dict()) == weights
    assert found.preparation.size == size
    assert any(isinstance(module, nn.ReLU) for module in model.modules()) or name == "inception-v3"


def test_a_blank_network_draws_no_random_numbers() -> None:
    before = torch.random.get_rng_state()
    blank(architecture("mnist-cnn"), handwritten_digits.load())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mnist-cn", "did you mean 'mnist-cnn'"),
        ("mnist-mlp(gelu)", "unknown activation 'gelu'"),
        ("mnist-mlp(tanh", "take an option"),
        ("vgg16(tanh)", "only mnist-mlp and mnist-cnn take an option"),
    ],
)
def test_wrong_names_are_told_in_one_line(name: str, line: str) -> None:
    with pytest.raises(UsageError, match=line.replace("(", r"\(")) as raised:
        architecture(name)
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_together_is_told() -> None:
    texts, digits = sentiment.load(4, 2), handwritten_digits.load()
    for name, data in (("mnist-cnn", texts), ("imdb-lstm", digits)):
        with pytest.raises(UsageError, match=f"{name} takes"):
            fitting(architecture(name), data)


def test_images_are_brought_into_range_and_size() -> None:
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert torch.allclose(Preparation()(x).flatten(), torch.tensor([0.0, 0.2, 1.0]))
    assert torch.allclose(ARCHITECTURES["mnist-cnn"].preparation(x).flatten(), torch.tensor([-1.0, -0.6, 1.0]))
    vgg = ARCHITECTURES["vgg16"].preparation
    black = vgg(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert black.shape == (2, 3, 224, 224)
    assert torch.allclose(black[0, :, 0, 0], -torch.tensor(IMAGENET_MEAN) / torch.tensor([0.229, 0.224, 0.225]))
    masks = torch.zeros(1, 2, 64, 64, dtype=torch.bool)
    masks[0, 1, :32] = True
    assert vgg.masks(masks).float().mean((2, 3)).tolist() == [[0.0, 0.5]]
    assert vgg.for_channels(1)(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 224, 224)
    tokens = torch.tensor([[0, 5]])
    assert torch.equal(vgg(tokens), tokens)
    assert ARCHITECTURES["mnist-cnn"].preparation.describe() == "values in [-1, 1]"
