"""The mixture model of attribution scores under which competition between labels can be calculated (Gupta and Arora 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import integrate

_ITERATIONS = 1_000
_STILL = 1e-6
_SCORES = 4_000


@dataclass(frozen=True)
class Mixture:
    """Scores of every label for every feature, all independent: noisy signal where a label is, white noise elsewhere.

    Each label has `salient` features of its own, with scores N(mean, sigma_1^2); all its other scores are
    N(0, sigma_2^2). The logit of a label is the sum of its scores (completeness).

    Source: Gupta and Arora 2019, section 4, with the disjoint sets S_y of Theorem 1's proof.

    Raises:
        ValueError: the labels' own features are more than there are.
    """

    labels: int
    features: int
    salient: int
    mean: float = 1.0
    sigma_1: float = 1.0
    sigma_2: float = 1.0

    def __post_init__(self) -> None:
        if self.labels * self.salient > self.features:
            raise ValueError(f"{self.labels} x {self.salient} salient features do not fit into {self.features}")

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Scores [labels, features]; the own features of label y are the y-th `salient` ones."""
        scores = rng.normal(0.0, self.sigma_2, (self.labels, self.features))
        for label in range(self.labels):
            own = slice(label * self.salient, (label + 1) * self.salient)
            scores[label, own] = rng.normal(self.mean, self.sigma_1, self.salient)
        return scores

    @property
    def on_own(self) -> tuple[float, float]:
        """How often a label keeps a feature of its own, p, and the expected kept score, E[score x kept]."""
        return kept((self.mean, self.sigma_1), [(0.0, self.sigma_2)] * (self.labels - 1))

    @property
    def on_others(self) -> tuple[float, float]:
        """The same on a feature of another label; the kept score is negative there, as that label takes what is positive."""
        if self.labels == 1:
            return 0.0, 0.0
        rivals = [(self.mean, self.sigma_1)] + [(0.0, self.sigma_2)] * (self.labels - 2)
        return kept((0.0, self.sigma_2), rivals)

    @property
    def expected_sum(self) -> float:
        """Of a label's map after competition; what no label owns adds nothing, by symmetry."""
        return self.salient * (self.on_own[1] + (self.labels - 1) * self.on_others[1])

    @property
    def printed_factor(self) -> float:
        """c / p, by which the proof of Theorem 1 rescales the map after competition to complete it again.

        It is too large: a feature is kept more often where its score is high, so that the mean of the kept scores is above c.
        """
        return self.mean / self.on_own[0]

    @property
    def factor(self) -> float:
        """c / E[score x kept], which takes that into account; right as far as other labels' features are few."""
        return self.mean / self.on_own[1]

    @property
    def whole_factor(self) -> float:
        """The expected logit over the expected sum after competition, other labels' features included."""
        return self.mean * self.salient / self.expected_sum

    def bound(self, t: float) -> float:
        """How far a logit is from c |S| at most, with probability 1 - exp(-t^2 / 4): equation 1."""
        return t * (self.sigma_1 * math.sqrt(self.salient) + self.sigma_2 * math.sqrt(self.features - self.salient))


def kept_share(labels: int) -> float:
    """How often one of k labels keeps a feature: (2 / k) (1 - 2^-k).

    For scores that are exchangeable between labels and symmetric about zero, without ties: it has the largest score with
    probability 1 / k, and then keeps it unless all are negative (2^-k for all labels together); the smallest likewise. The
    paper's 1 / k (section 4) leaves out the negative scores.
    """
    return 2 / labels * (1 - 2.0**-labels)


def kept(own: tuple[float, float], rivals: list[tuple[float, float]]) -> tuple[float, float]:
    """The probability that a normal score survives competition, and the expectation of the score where it does, else 0.

    Args:
        own: mean and standard deviation of the label's score.
        rivals: those of the scores of the other labels, all independent.

    Returns:
        P(kept), E[score x kept]; a positive score is kept as the largest of all, a negative one as the smallest.
    """
    mean, sigma = own

    def density(score: float) -> float:
        wins = 1.0
        for centre, spread in rivals:
            z = (score - centre) / (spread * math.sqrt(2))
            wins *= 0.5 * math.erfc(-z if score > 0 else z)
        return wins * math.exp(-0.5 * ((score - mean) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))

    probability = expected = 0.0
    reach = 12 * sigma
    for start, stop in ((min(mean - reach, 0.0), 0.0), (0.0, max(mean + reach, 0.0))):
        middle = [mean] if start < mean < stop else None
        probability += integrate.quad(density, start, stop, points=middle)[0]
        expected += integrate.quad(lambda score: score * density(score), start, stop, points=middle)[0]
    return probability, expected


@dataclass(frozen=True)
class Fit:
    """Scores as a mixture of N(0, sigma_2^2) and N(mean, sigma_1^2).

    share  of the second
    gain   log-likelihood of a score, in nats, more than under one Gaussian
    """

    share: float
    mean: float
    sigma_1: float
    sigma_2: float
    gain: float

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        return {
            "share": self.share, "mean (c)": self.mean, "sigma 1": self.sigma_1, "sigma 2": self.sigma_2,
            "gain in log-likelihood of a score (nats)": self.gain,
        }  # fmt: skip

    def density(self, at: np.ndarray) -> np.ndarray:
        """The density at scores [n]."""
        return self.share * _normal(at, self.mean, self.sigma_1) + (1 - self.share) * _normal(at, 0.0, self.sigma_2)


def fit(scores: np.ndarray) -> Fit | None:
    """The mixture that is most likely, found by expectation maximisation from a wide component above a narrow one at zero.

    Args:
        scores: [n].

    Returns:
        None where fewer than ten scores, or scores of one value, tell nothing.

    Source: the model of Gupta and Arora 2019, section 4 and Figure 2.
    """
    if len(scores) < 10 or np.ptp(scores) == 0:
        return None
    level = float(scores.std())
    floor = 1e-3 * level
    share, mean, sigma_1, sigma_2 = 0.3, level, level, 0.5 * level
    for _ in range(_ITERATIONS):
        before = np.array([share * level, mean, sigma_1, sigma_2])
        signal, noise = share * _normal(scores, mean, sigma_1), (1 - share) * _normal(scores, 0.0, sigma_2)
        weight = signal / np.maximum(signal + noise, np.finfo(float).tiny)
        total, rest = weight.sum(), (1 - weight).sum()
        if min(total, rest) < 1e-6:
            break
        share, mean = float(total / len(scores)), float((weight * scores).sum() / total)
        sigma_1 = max(floor, math.sqrt(float((weight * (scores - mean) ** 2).sum() / total)))
        sigma_2 = max(floor, math.sqrt(float(((1 - weight) * scores**2).sum() / rest)))
        if np.abs(np.array([share * level, mean, sigma_1, sigma_2]) - before).max() < _STILL * level:
            break
    found = Fit(share, mean, sigma_1, sigma_2, 0.0)
    one = -0.5 - math.log(level * math.sqrt(2 * math.pi))
    many = np.log(np.maximum(found.density(scores), np.finfo(float).tiny)).mean()
    return Fit(share, mean, sigma_1, sigma_2, float(many) - one)


def _normal(at: np.ndarray, mean: float, sigma: float) -> np.ndarray:
    """The normal density; scipy.stats.norm.pdf spends most of its time on checking its arguments."""
    found: np.ndarray = np.exp(-0.5 * ((at - mean) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    return found


def figures_of(before: np.ndarray, after: np.ndarray, all_labels: np.ndarray) -> dict[str, Any]:
    """The mixture that fits a label's scores, and the factor that restores their sum after competition.

    Args:
        before, after: [n], the scores of the label before and after competition.
        all_labels: [k, n], the scores of all labels there, whose spread is that of the label's rivals.

    Returns:
        "factors", of which the first is observed and the others follow from the mixture; "mixture" (Figure 2 of Gupta and
        Arora 2019) with its density, and that of the scores, at 30 "scores".
    """
    left = float(after.sum())
    factors = {"sum before / sum after": float(before.sum()) / left} if left else {}
    found = fit(before[:: max(1, len(before) // _SCORES)])
    if found is None:
        return {"factors": factors}
    rivals = [(0.0, float(all_labels.std()))] * (len(all_labels) - 1)
    p, expected = kept((found.mean, found.sigma_1), rivals)
    for name, part in (("c / E[kept score]", expected / found.mean if found.mean else 0.0), ("1 / p, as printed", p)):
        if part:
            factors[name] = 1 / part
    heights, edges = np.histogram(before, bins=30, density=True)
    centres = (edges[1:] + edges[:-1]) / 2
    return {
        "factors": factors,
        "mixture": found.figures(),
        "scores": centres.tolist(),
        "density of scores": heights.tolist(),
        "density of the mixture": found.density(centres).tolist(),
    }
