"""The pointing game: hits, chance and drop by hand, against a slow twin, and the images of which it says nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from attribcheck import get_method, method
from attribcheck.methods.registry import as_method
from attribcheck.models.subject import Subject
from attribcheck.sanity import pointing_game
from attribcheck.sanity.bootstrap import interval
from attribcheck.sanity.outcome import NotApplicable
from attribcheck.sanity.study import SCALES, Study
from torch import nn

SIDE, CLASSES = 6, 3


class ChannelSums(nn.Module):
    """Logit c is the sum of channel c."""

    def forward(self, x):
        return x.flatten(2).sum(2)


def scenes(count=12, seed=0) -> Subject:
    """Images with a block for each of their two classes, bright in the class's own channel, the first one brighter."""
    draw = torch.Generator().manual_seed(seed)
    x, masks = torch.zeros(count, CLASSES, SIDE, SIDE), torch.zeros(count, CLASSES, SIDE, SIDE)
    present, labels = torch.zeros(count, CLASSES), torch.zeros(count, dtype=torch.long)
    for i in range(count):
        classes = torch.randperm(CLASSES, generator=draw)[:2].tolist()
        corners = [(0, 0), (0, 3), (3, 0), (3, 3)]
        places = torch.randperm(4, generator=draw)[:2].tolist()
        for rank, (c, place) in enumerate(zip(classes, places)):
            row, column = corners[place]
            block = (slice(row, row + 2), slice(column, column + 3))
            masks[i, c][block] = 1
            x[i, c][block] = 0.9 - 0.3 * rank + 0.01 * torch.rand(2, 3, generator=draw)
            present[i, c] = 1
        labels[i] = classes[0]
    return Subject("sums", "blocks", ChannelSums(), x, labels, present, masks, x, ("red", "green", "blue"), 0, 1.0, 0.0)


def outcomes(subject, name, scale="default"):
    found = as_method(name) if callable(name) else get_method(name)
    return {o.check: o for o in pointing_game.run(Study(subject, found, SCALES[scale]))}


@method
def brightness(model, x, target, baseline=None):
    """Wrong: one map for all classes, the image."""
    return x.clone()


@method
def nowhere(model, x, target, baseline=None):
    """Wrong: a constant map."""
    return torch.ones_like(x)


@method
def away(model, x, target, baseline=None):
    """Wrong: points where the class is not."""
    return 1 - x.gather(1, target.reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])).expand_as(x)


def test_a_map_of_its_class_wins_both_games():
    found = outcomes(scenes(), "gradient-times-input")
    pointing, restricted = found["pointing-game/pointing"], found["pointing-game/restricted"]
    share = 6 / SIDE**2
    assert pointing.observed == "holds"
    assert pointing.value == pytest.approx(1 - share)
    assert pointing.interval == pytest.approx((1 - share, 1 - share))
    assert pointing.figures["hit rate"] == 1
    assert pointing.figures["chance rate"] == pytest.approx(share)
    assert pointing.figures["difficult"]["trials"] == pointing.figures["trials"] == 24
    # The map of the top class hits its own mask and misses the other one.
    assert restricted.observed == "holds"
    assert restricted.value == restricted.interval[0] == restricted.interval[1] == 0.5
    assert restricted.figures["hit rate, map of the top class"] == 0.5
    assert restricted.figures["share of the hits that needs the own map"] == 1
    json.dumps([dict(o.figures) for o in found.values()], allow_nan=False)


def test_one_map_for_all_classes_loses_the_restricted_game():
    found = outcomes(scenes(), brightness)
    assert found["pointing-game/pointing"].observed == "holds"
    assert found["pointing-game/pointing"].figures["hit rate"] == 0.5
    restricted = found["pointing-game/restricted"]
    assert restricted.observed == "violated"
    assert (restricted.value, restricted.interval) == (0, (0, 0))
    assert restricted.figures["other classes, map of the top class"] == 0


def test_a_constant_map_hits_by_chance_and_a_wrong_one_less():
    constant = outcomes(scenes(), nowhere)["pointing-game/pointing"]
    assert constant.observed == "violated"
    assert (constant.value, constant.interval) == (0, (0, 0))
    assert constant.figures["hit rate"] == constant.figures["chance rate"]
    # The gradient of a sum is the same everywhere: ties over the whole image.
    assert outcomes(scenes(), "gradient")["pointing-game/pointing"].value == 0
    assert outcomes(scenes(), away)["pointing-game/pointing"].observed == "violated"
    assert outcomes(scenes(), away)["pointing-game/pointing"].figures["hit rate"] == 0


def test_ties_count_by_their_share():
    values = torch.tensor([[3.0, 1, 3, 3], [0, 0, 0, 0], [-2, -1, -5, -3]])
    masks = torch.tensor([[True, True, False, False], [True, False, False, False], [False, True, False, False]])
    found = pointing_game._hits(pointing_game._peaks(values), masks)
    assert found.tolist() == pytest.approx([1 / 3, 1 / 4, 1])


@pytest.mark.parametrize(("shape", "expected"), [((3, 3), 1), ((4, 3), 2), ((4, 4), 4)])
def test_the_centre_is_one_two_or_four_pixels(shape, expected):
    middle = pointing_game._centre(torch.Size(shape)).reshape(shape)
    assert int(middle.sum()) == expected
    assert torch.equal(middle, middle.flip(0, 1))


@method
def noise(model, x, target, baseline=None):
    """A map from the entries of x and the class, with ties."""
    return (7 * x + target.reshape(-1, 1, 1, 1) * x.roll(1, 2)).mul(3).round() / 3


def _twin(subject):
    """Both games, trial by trial."""
    rows = []
    for i in range(len(subject.x)):
        classes = [c for c in range(CLASSES) if subject.present[i, c] and subject.masks[i, c].any()]
        with torch.no_grad():
            top = int(subject.model(subject.x[i : i + 1]).argmax())

        def hit(mapped, c, i=i):
            values = noise(None, subject.x[i : i + 1], torch.tensor([mapped]))[0].sum(0)
            largest = values == values.max()
            return float((largest & (subject.masks[i, c] > 0)).sum() / largest.sum())

        for c in classes:
            share = float((subject.masks[i, c] > 0).double().mean())
            rows.append((i, hit(c, c), hit(top, c), share, len(classes)))
    return rows


def test_against_a_slow_twin():
    subject = scenes(9, seed=3)
    draw = torch.Generator().manual_seed(1)
    masks = (torch.rand(subject.masks.shape, generator=draw) < 0.3).float()
    masks[0] = 0
    masks[1, :2] = 0
    present = (torch.rand(subject.present.shape, generator=draw) < 0.7).float()
    x = torch.rand(subject.x.shape, generator=draw)
    subject = replace(subject, x=x, masks=masks, present=present)
    rows = _twin(subject)
    found = outcomes(subject, noise)
    pointing, restricted = found["pointing-game/pointing"], found["pointing-game/restricted"]
    assert pointing.value == pytest.approx(np.mean([own - share for _, own, _, share, _ in rows]))
    several = [row for row in rows if row[4] > 1]
    assert 0 < len(several) < len(rows)
    assert restricted.value == pytest.approx(np.mean([own - top for _, own, top, _, _ in several]))
    assert restricted.figures["trials"] == len(several)
    hard = [row for row in several if row[3] < 0.25]
    assert pointing.figures["difficult"]["trials"] == len(hard)
    assert pointing.figures["difficult"].get("hit rate", 0) == pytest.approx(np.mean([row[1] for row in hard]))


def test_images_are_drawn_with_all_their_trials():
    trials = np.array([0, 0, 0, 1, 2, 2, 3])
    values = np.array([1.0, 1, 1, 0, 1, 0, 0])
    empty = np.zeros(7)
    rows = pointing_game.Trials(trials, *[empty] * 6).per_image(values)
    assert rows.tolist() == [[3, 3], [0, 1], [1, 2], [0, 1]]
    assert pointing_game.mean_of_trials(rows, 0) == pytest.approx(4 / 7)
    low, high = interval(rows, 2000, 0, pointing_game.mean_of_trials)
    draw = np.random.default_rng(5)
    means = []
    for _ in range(4000):
        picked = rows[draw.integers(0, 4, 4)].sum(0)
        means.append(picked[0] / picked[1])
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.08)


def test_trials_that_differ_in_number_with_one_difference_need_no_warning(recwarn):
    subject = scenes()
    present = subject.present.clone()
    present[0] = torch.nn.functional.one_hot(subject.labels[0], CLASSES)
    masks = subject.masks.clone()
    masks[1, :], present[1] = 1, 1
    restricted = outcomes(replace(subject, present=present, masks=masks), brightness)["pointing-game/restricted"]
    assert (restricted.observed, restricted.value) == ("violated", 0)
    assert restricted.figures["images"] == 11
    assert not [w for w in recwarn if "egenerate" in str(w.message)]


def test_one_class_in_each_image_leaves_the_first_game():
    subject = scenes()
    alone = torch.nn.functional.one_hot(subject.labels, CLASSES)
    found = outcomes(replace(subject, present=alone), "gradient-times-input")
    assert found["pointing-game/pointing"].observed == "holds"
    assert found["pointing-game/pointing"].figures["several classes"] == {"trials": 0}
    assert found["pointing-game/restricted"].observed == "not-applicable"
    assert "several classes" in found["pointing-game/restricted"].note


def test_the_top_class_need_not_be_in_the_image():
    subject = scenes()
    negative = nn.Sequential(ChannelSums(), nn.Linear(CLASSES, CLASSES, bias=False)).eval().requires_grad_(False)
    negative[1].weight.copy_(-torch.eye(CLASSES))
    # The absent class alone has the logit 0, and gradient * input is 0 on its channel: a constant map, which hits by chance.
    study = Study(replace(subject, model=negative), get_method("gradient-times-input"), SCALES["default"])
    trials = pointing_game.play(study)
    assert len(trials.image) == 24
    assert not trials.on_top.any()
    assert (trials.top == trials.share).all()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"masks": None}, "no masks"),
        ({"masks": torch.ones(12, CLASSES, 3, 3)}, "not a pixel"),
        ({"group_axis": None}, "not a pixel"),
        ({"masks": torch.zeros(12, CLASSES, SIDE, SIDE)}, "no class"),
    ],
)
def test_what_it_says_nothing_of(changes, why):
    with pytest.raises(NotApplicable, match=why):
        outcomes(replace(scenes(), **changes), "gradient")


def test_the_paper_is_quoted_for_its_methods_alone():
    found = outcomes(scenes(), "gradient")
    assert found["pointing-game/restricted"].paper == {
        "source": "Khakzar et al. 2020, Table 3",
        "value": "7.6 points (52.7 % - 45.1 %)",
    }
    assert outcomes(scenes(), brightness)["pointing-game/pointing"].paper is None


def test_the_check_names_its_findings():
    assert set(outcomes(scenes(), "gradient")) == set(pointing_game.CHECK.full_names)
