"""Competition: the mixture model against its simulation, maps by hand, right and broken methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.axioms.approximate_completeness import bias_relevance
from attribcheck.claims import Method
from attribcheck.methods.competition import competition as competing
from attribcheck.methods.competition import survivors
from attribcheck.methods.registry import get_method
from attribcheck.models.subject import Subject
from attribcheck.sanity import all_labels, competition, mixture
from attribcheck.sanity.competition import explained
from attribcheck.sanity.outcome import NotApplicable, Outcome
from attribcheck.sanity.similarity import spearman
from attribcheck.sanity.study import SCALES, Scale, Study
from scipy import stats
from torch import Tensor, nn

SCALE = replace(SCALES["tiny"], images=24, rows=10_000)


def subject(model: nn.Module, x: Tensor, labels: Tensor, permuted: Callable[[], Subject] | None = None) -> Subject:
    classes = int(model(x[:1]).shape[1])
    return Subject(
        "tiny", "hand-made", model.eval().requires_grad_(False), x, labels, torch.eye(classes)[labels], None, x,
        tuple(map(str, range(classes))), None, 1.0, 0.5, permuted,
    )  # fmt: skip


def learnt(k: int = 4, per: int = 20, images: int = 24) -> Subject:
    """A linear model that has learnt where each class is bright, and looks at the rest at random; half of x is dark."""
    torch.manual_seed(0)
    weights = 0.4 * torch.randn(k, 2 * k * per)
    labels = torch.arange(images) % k
    x = 0.5 * torch.rand(images, 2 * k * per)
    x[:, k * per :] = 0
    for label in range(k):
        own = slice(label * per, (label + 1) * per)
        weights[label, own] += 0.5
        x[labels == label, own] += 1
    layer = nn.Linear(2 * k * per, k, bias=True)
    layer.weight.data = weights
    return subject(layer, x, labels)


def method(function: Callable[..., Any], name: str = "made") -> Method:
    return Method(name, lambda model, x, target, baseline=None: function(model, x, target))


def findings(of: Subject, by: str | Method, scale: Scale = SCALE) -> dict[str, Outcome]:
    by = get_method(by) if isinstance(by, str) else by
    found = {}
    for outcome in competition.run(Study(of, by, scale)):
        json.dumps(dict(outcome.figures), allow_nan=False)
        found[outcome.check.partition("/")[2]] = outcome
    assert tuple(found) == competition.CHECK.variants
    return found


# -- the mixture model -------------------------------------------------------------------------------------------


def test_the_share_kept_is_that_of_exchangeable_symmetric_scores() -> None:
    assert [mixture.kept_share(k) for k in (2, 3, 10)] == pytest.approx([0.75, 7 / 12, 0.19980, ], abs=1e-5)  # fmt: skip
    for k in (2, 5):
        p, expected = mixture.kept((0.0, 2.0), [(0.0, 2.0)] * (k - 1))
        assert p == pytest.approx(mixture.kept_share(k))
        assert expected == pytest.approx(0, abs=1e-12)
    assert mixture.kept((3.0, 1.0), []) == pytest.approx((1, 3))


def test_the_expectations_are_those_of_a_simulation() -> None:
    model = mixture.Mixture(labels=10, features=2000, salient=200)
    p, expected = model.on_own
    assert (p, expected) == pytest.approx((0.356, 0.640), abs=5e-4)
    rng = np.random.default_rng(0)
    own, share, others, sums, logits = [], [], [], [], []
    for _ in range(30):
        scores = torch.tensor(model.draw(rng))
        left = survivors(scores[:, None], torch.tensor([0]))[0].numpy()
        own.append(left[:200].mean())
        share.append((left[:200] != 0).mean())
        others.append(left[200:].mean())
        sums.append(left.sum())
        logits.append(float(scores[0].sum()))
    assert np.mean(share) == pytest.approx(p, abs=0.02)
    assert np.mean(own) == pytest.approx(expected, abs=0.03)
    assert np.mean(others) == pytest.approx(model.on_others[1], abs=0.01)
    assert np.mean(sums) == pytest.approx(model.expected_sum, abs=3 * np.std(sums) / 30**0.5)
    assert all(abs(logit - 200) <= model.bound(4.0) for logit in logits)


def test_theorem_1_completes_the_sum_with_the_expected_kept_score_and_not_with_p() -> None:
    model = mixture.Mixture(labels=2, features=40_000, salient=4_000, sigma_1=1.0, sigma_2=0.05)
    scores = torch.tensor(model.draw(np.random.default_rng(1)))
    logit = float(scores[0].sum())
    left = float(survivors(scores[:, None], torch.tensor([0])).sum())
    assert model.factor * left == pytest.approx(logit, rel=0.05)
    assert model.whole_factor * left == pytest.approx(logit, rel=0.05)
    ten = mixture.Mixture(labels=10, features=2000, salient=200)
    assert ten.printed_factor / ten.factor == pytest.approx(1.8, abs=0.01)
    # The features that other labels own bias the sum, and only the factor that knows of them restores it.
    assert ten.whole_factor * ten.expected_sum == pytest.approx(200)
    assert ten.factor * ten.expected_sum < 100


def test_theorem_3_an_approximately_complete_map_stays_one() -> None:
    sizes = np.arange(200, 1200, 100)
    rng = np.random.default_rng(2)
    logits, sums = [], []
    for salient in sizes:
        model = mixture.Mixture(labels=3, features=6000, salient=int(salient), sigma_1=0.5, sigma_2=0.1)
        scores = torch.tensor(model.draw(rng))
        logits.append(2 * float(scores[0].sum()) + 5)  # alpha = 1/2, beta = 5/2
        sums.append(float(survivors(scores[:, None], torch.tensor([0])).sum()))
    assert np.corrcoef(logits, sums)[0, 1] ** 2 > 0.99


def test_the_fit_finds_the_mixture() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0, 1, 70_000), rng.normal(4, 1.5, 30_000)])
    found = mixture.fit(scores)
    assert found is not None
    assert (found.share, found.mean, found.sigma_1, found.sigma_2) == pytest.approx((0.3, 4, 1.5, 1), abs=0.03)
    truth = mixture.Fit(0.3, 4.0, 1.5, 1.0, 0.0)
    assert np.log(found.density(scores)).mean() >= np.log(truth.density(scores)).mean()
    one, two = (stats.norm.logpdf(scores, scores.mean(), scores.std()), np.log(found.density(scores)))
    assert found.gain == pytest.approx((two - one).mean())
    assert mixture.fit(np.ones(100)) is None
    assert mixture.fit(np.arange(9.0)) is None
    with pytest.raises(ValueError, match="do not fit"):
        mixture.Mixture(labels=3, features=8, salient=3)


# -- maps of all labels ------------------------------------------------------------------------------------------


def test_competition_by_hand_and_twice() -> None:
    of = subject(nn.Linear(2, 2, bias=False), torch.ones(4, 2), torch.zeros(4, dtype=torch.long))
    of.model.weight.data = torch.tensor([[1.0, 1.0], [2.0, -1.0]])  # type: ignore[union-attr, operator]
    study = Study(of, get_method("gradient-times-input"), SCALE)
    maps = all_labels.all_maps(study, [of.model], 1, 2)
    assert maps.before[:, 0].tolist() == [[1, 1], [2, -1]]
    assert maps.after[:, 0].tolist() == [[0, 1], [2, -1]]
    assert maps.own()[1].tolist() == [[0, 1]]
    twice = survivors(torch.tensor(maps.after), torch.tensor([0]))
    assert twice.tolist() == [[0, 1]]


def test_a_second_competition_changes_nothing() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 3, 40)
    targets = [torch.full((3,), label) for label in range(5)]
    once = torch.stack([survivors(scores, target) for target in targets])
    assert torch.equal(once, torch.stack([survivors(once, target) for target in targets]))
    unknown = competing(get_method("gradient-times-input")).but(name="my-own")
    with pytest.raises(NotApplicable, match="already"):
        findings(learnt(), unknown)


def test_a_competition_is_compared_with_its_base_and_called_itself() -> None:
    base, named, alias = (findings(learnt(), name) for name in (
        "gradient-times-input", "competition(gradient-times-input)", "cgi"
    ))  # fmt: skip
    assert base == named == alias
    assert alias["randomization"].figures["base"] == "gradient-times-input"
    right = get_method("cgi").function
    broken = method(lambda model, x, target: 0 * right(model, x, target), "cgi")
    assert findings(learnt(), broken)["evidence"].observed == "violated"


def test_fresh_parameters_are_drawn_apart_from_the_model_and_from_all_other_random_numbers() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factors = nn.Parameter(torch.arange(20.0))
            self.layer = nn.Linear(20, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.layer(x * self.factors)
            return result

    model = Scaled().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (
        all_labels.reinitialised(model, torch.ones(1, 20), torch.Generator().manual_seed(seed)).state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.rand(1) == expected
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, value in one.items():
        assert torch.equal(value, same[name])
        assert not torch.equal(value, other[name])
        assert not torch.equal(value, before[name])
    assert torch.equal(one["factors"].sort().values, torch.arange(20.0))


def test_a_placebo_keeps_as_many_entries() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=(4, 50)) * (rng.random((4, 50)) < 0.6)
    after = before * (rng.random((4, 50)) < 0.3)
    found = all_labels.thinned(before, after, rng)
    assert ((found != 0).sum(1) == (after != 0).sum(1)).all()
    assert (found[found != 0] == before[found != 0]).all()
    assert not np.array_equal(found, after)


def test_exchangeable_scores_keep_the_share_that_the_formula_gives() -> None:
    rng = np.random.default_rng(0)
    one_wins = np.stack([np.full((200, 100), float(label)) for label in range(1, 5)])
    scores = all_labels.exchangeable(one_wins, rng)
    assert (np.sort(np.abs(scores), 0) == np.sort(one_wins, 0)).all()
    left = survivors(torch.tensor(scores), torch.zeros(200, dtype=torch.long)).numpy()
    shares = all_labels.share_kept(left, (scores != 0).any(0))
    assert shares.mean() == pytest.approx(mixture.kept_share(4), abs=0.01)


def test_shares_and_purity_by_hand() -> None:
    some = np.array([[True, True, True, False], [False] * 4])
    assert all_labels.share_kept(np.array([[1.0, 0, 0, 0], [0.0] * 4]), some).tolist() == [1 / 3]
    assert all_labels.purity(np.array([[3.0, -1], [-2, -2], [0, 0]])).tolist() == [0.5, -1, 0]


def test_rank_correlation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (3, 30)).astype(float), rng.integers(0, 4, (3, 30)).astype(float)
    assert spearman(a, b) == pytest.approx([stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])


# -- findings ----------------------------------------------------------------------------------------------------


def test_what_gradient_times_input_gains_and_keeps() -> None:
    found = findings(learnt(), "gradient-times-input")
    assert {name: outcome.observed for name, outcome in found.items()} == {
        "randomization": "holds",
        "data-randomization": "not-applicable",
        "kept": "holds",
        "evidence": "holds",
        "approximate-completeness": "holds",
        "competed-completeness": "holds",
    }
    shows = found["randomization"].figures["correlation of |R| with |x|"]
    assert shows["trained, before"] > 0.7
    assert shows["other network, after"] < shows["other network, before"] - 0.2
    shares = found["kept"].figures["share of features kept"]
    low, high = shares["exchangeable and symmetric scores"][1:]
    assert low < mixture.kept_share(4) < high
    # The re-initialised layer draws symmetric rows: its labels are exchangeable.
    assert shares["re-initialised"][0] == pytest.approx(mixture.kept_share(4), abs=0.06)
    low, high = found["evidence"].figures["as many entries kept at random, less before"][1:]
    assert low < 0.05
    assert high > -0.05


def test_one_map_for_all_labels_gains_nothing_and_falls() -> None:
    found = findings(learnt(), method(lambda model, x, target: x))
    for name in ("randomization", "evidence"):
        assert (found[name].value, found[name].interval, found[name].observed) == (0, (0, 0), "violated")
    assert found["kept"].value == 1
    assert found["kept"].observed == "violated"
    assert found["approximate-completeness"].observed == "violated"


def test_a_competition_that_keeps_the_losers_falls_on_evidence_but_not_on_sparsity() -> None:
    base = get_method("gradient-times-input").function

    def losers(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        maps = torch.stack([base(model, x, torch.full_like(target, label)) for label in range(4)])
        own = maps[target, torch.arange(len(target))]
        return torch.where(((own > 0) & (own <= maps.amin(0))) | ((own < 0) & (own <= maps.amin(0))), own, 0 * own)

    found = findings(learnt(), method(losers, "competition(gradient-times-input)"))
    assert found["randomization"].observed == "holds"
    assert found["evidence"].observed == "violated"


def test_a_placebo_competition_falls_on_evidence_or_says_nothing() -> None:
    base = get_method("gradient-times-input").function
    by_chance = method(lambda model, x, target: base(model, x, target) * (torch.sin(1e4 * x) > 0), "cgi")
    found = findings(learnt(), by_chance)
    assert found["evidence"].observed != "holds"


def test_sums_that_do_not_follow_the_logit_fall() -> None:
    found = findings(learnt(), method(lambda model, x, target: torch.sin(1e4 * x) * (1 + target[:, None])))
    assert found["approximate-completeness"].observed == "violated"
    right = get_method("gradient-times-input").function
    found = findings(learnt(), method(lambda model, x, target: -right(model, x, target)))
    assert found["approximate-completeness"].value == 0
    assert found["approximate-completeness"].figures["alpha (slope)"] == pytest.approx(-1, abs=0.05)


def test_the_beta_of_gradient_times_input_is_the_relevance_of_the_biases() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3))
    of = subject(model, torch.randn(8, 12), torch.arange(8) % 3)
    found = findings(of, "gradient-times-input")["approximate-completeness"].figures
    with_slopes = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3))
    with_slopes.load_state_dict(model.state_dict())
    every = [bias_relevance(with_slopes, of.x, torch.full((8,), label)).abs().max() for label in range(3)]
    assert found["beta for alpha = 1"] == pytest.approx(float(max(every)), abs=1e-5)
    own = float(bias_relevance(with_slopes, of.x, of.labels).abs().max())
    assert found["sup |sum b df/db|"] == pytest.approx(own, abs=1e-5)
    recurrent = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    recurrent.append(nn.PReLU())
    assert competition._of_biases(subject(recurrent, torch.randn(4, 12), torch.zeros(4, dtype=torch.long))) == {}


def test_the_line_explains_what_a_correlation_does() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 10))
    sums = 2 * logits + rng.normal(size=(3, 10)) + 1
    moments = np.stack([sums, logits, sums**2, logits**2, sums * logits]).mean(1).T
    assert explained(moments) == pytest.approx(np.corrcoef(sums.flatten(), logits.flatten())[0, 1] ** 2)
    # As SciPy hands over what it has drawn: [5, draws, M].
    resampled = np.stack([moments[rng.integers(0, 10, 10)] for _ in range(4)])
    together = explained(resampled.transpose(2, 0, 1), axis=-1)
    assert together == pytest.approx([float(explained(each)) for each in resampled])
    assert explained(np.array([[1.0, 2, 1, 4, 2]])) == 0


def test_against_permuted_labels() -> None:
    of = learnt()
    torch.manual_seed(9)
    other = nn.Linear(160, 4)

    def permuted(accuracy: float) -> Callable[[], Subject]:
        return lambda: replace(subject(other, of.x, of.labels), accuracy=accuracy)

    found = findings(replace(of, permuted=permuted(0.9)), "gradient-times-input")["data-randomization"]
    assert found.observed == "holds"
    weak = findings(replace(of, permuted=permuted(0.3)), "gradient-times-input")["data-randomization"]
    assert weak.observed == "inconclusive"
    assert weak.note is not None
    assert "30.0%" in weak.note
    assert weak.value == found.value
    dear = replace(SCALE, rows=4 * 10)
    assert (
        findings(replace(of, permuted=permuted(0.9)), "gradient-times-input", dear)["data-randomization"].value is None
    )


def test_the_rule_of_each_finding() -> None:
    found = findings(learnt(), "gradient-times-input")
    assert {name: str(outcome.rule) for name, outcome in found.items()} == {
        "randomization": "below 0",
        "data-randomization": "below 0",
        "kept": "below 0.734375",  # half way between 1 and (2/4)(1 - 2^-4)
        "evidence": "above 0",
        "approximate-completeness": "above 0.5",
        "competed-completeness": "above 0.5",
    }


def test_empty_maps_and_one_label() -> None:
    found = findings(learnt(), method(lambda model, x, target: 0 * x))
    assert [found[name].observed for name in ("randomization", "kept", "evidence")] == ["not-applicable"] * 3
    assert found["competed-completeness"].observed == "violated"
    with pytest.raises(NotApplicable, match="no other to compete with"):
        findings(subject(nn.Linear(3, 1), torch.ones(4, 3), torch.zeros(4, dtype=torch.long)), "gradient")


def test_a_method_that_costs_too_much_is_left_out() -> None:
    with pytest.raises(NotApplicable, match="more than"):
        findings(learnt(), "occlusion-1", replace(SCALE, rows=1000))
    few = replace(SCALE, rows=2 * 4 * 6)
    assert findings(learnt(), "gradient-times-input", few)["kept"].figures["samples"] == 6
