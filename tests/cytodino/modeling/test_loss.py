import math

import numpy as np
import pytest
import torch

from cytodino.modeling.loss import (
    HierarchicalFocalLoss,
    class_weights,
    critical_penalties,
    soft_labels,
)
from cytodino.recipe import FocalLoss
from cytodino.taxonomy import CODES, N_CLASSES, index_of

SOFT = soft_labels(FocalLoss())
PENALTY = critical_penalties(FocalLoss())
EVEN = np.ones(N_CLASSES, int)


def soft(true, other):
    return SOFT[index_of(true), index_of(other)]


def test_every_row_of_the_soft_labels_is_a_distribution():
    np.testing.assert_allclose(SOFT.sum(axis=1), 1, atol=1e-12)
    assert (SOFT >= 0).all()
    np.testing.assert_allclose(np.diag(SOFT), 0.9)


@pytest.mark.parametrize(
    ("true", "other", "value"),
    [
        # Within the lineage 0.095: neighbours 0.00095, the others 0.09405. Outside 0.005.
        ("MYB", "PMO", 0.00095 / 2),
        ("MYB", "MMZ", 0.00095 / 2),
        ("MYB", "BLA", 0.09405 / 3),
        ("MYB", "NGS", 0.09405 / 3),
        ("MYB", "MON", 0.005 / 15),
        ("BLA", "PMO", 0.00095),  # the first stage has one neighbour
        ("BLA", "MYB", 0.09405 / 4),
        ("PEB", "EBO", 0.095),  # a neighbour and no others: it takes all of the lineage's share
        ("EBO", "PEB", 0.095),
        ("PEB", "BLA", 0.005 / 19),
        ("LYT", "LYI", 0.095 / 2),  # no order of maturation
        ("LYT", "EBO", 0.005 / 18),
        ("EOS", "ABE", 0.095),
        ("MON", "BAS", 0.1 / 20),  # alone in its lineage
        ("BAS", "ABE", 0.1 / 20),
        ("KSC", "HAC", 0.095 / 2),
        ("NIF", "ART", 0.095 / 2),
    ],
)
def test_soft_labels_are_those_worked_out_by_hand(true, other, value):
    assert soft(true, other) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("true", "predicted", "value"),
    [
        ("BLA", "NGS", 3.0),
        ("HAC", "LYT", 3.0),
        ("NGS", "BLA", 1.5),
        ("EBO", "FGC", 1.5),
        ("BLA", "PMO", 1.0),  # both critical
        ("NGS", "NGB", 1.0),  # both safe
        ("MMZ", "BLA", 1.0),  # neutral
        ("BLA", "MMZ", 1.0),
        ("BLA", "BLA", 1.0),
    ],
)
def test_penalties_are_as_published(true, predicted, value):
    assert PENALTY[index_of(true), index_of(predicted)] == value


def test_there_are_64_pairs_of_either_penalty():
    assert ((PENALTY == 3.0).sum(), (PENALTY == 1.5).sum()) == (64, 64)
    assert np.array_equal(PENALTY == 3.0, (PENALTY == 1.5).T)


def test_class_weights_are_balanced_under_a_root():
    counts = np.zeros(N_CLASSES, int)
    counts[:3] = 10, 20, 60
    # n / (3 classes * count): 3, 1.5, 0.5
    expected = [math.sqrt(3), math.sqrt(1.5), math.sqrt(0.5)] + [1.0] * 18
    np.testing.assert_allclose(class_weights(counts, 0.5), expected)
    np.testing.assert_allclose(class_weights(counts, 0.0), 1)


def test_the_loss_of_two_cells_is_the_one_worked_out_by_hand():
    counts = np.zeros(N_CLASSES, int)
    counts[index_of("BLA")], counts[index_of("NGS")] = 1, 3  # weights sqrt(2), sqrt(2/3)
    p = np.full((2, N_CLASSES), 0.02)
    p[0, [index_of("BLA"), index_of("NGS")]] = 0.2, 0.42  # a blast called safe
    p[1, [index_of("NGS"), index_of("BLA")]] = 0.5, 0.12  # right
    labels = torch.tensor([index_of("BLA"), index_of("NGS")])

    def entropy(true, named):
        rest = 1 - sum(soft(true, code) for code in named)
        return -sum(soft(true, code) * math.log(value) for code, value in named.items()) - (
            rest * math.log(0.02)
        )

    first = 0.8**2 * math.sqrt(2) * entropy("BLA", {"BLA": 0.2, "NGS": 0.42}) * 3.0
    second = 0.5**2 * math.sqrt(2 / 3) * entropy("NGS", {"NGS": 0.5, "BLA": 0.12})
    loss = HierarchicalFocalLoss(FocalLoss(), counts)(torch.from_numpy(np.log(p)), labels)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    # The blast by hand: 0.9 ln 5 + 0.0235125 ln(1 / 0.42) + 0.0764875 ln 50 = 1.76810.
    assert first == pytest.approx(0.64 * 1.414214 * 1.76810 * 3, rel=1e-4)


def test_without_its_extras_it_is_cross_entropy():
    plain = FocalLoss(gamma=0, smoothing=0, missed=1, alarmed=1, class_weight_power=0)
    logits = torch.randn(8, N_CLASSES, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(HierarchicalFocalLoss(plain, EVEN)(logits, labels), expected)


def test_its_gradient_is_that_of_finite_differences():
    counts = np.arange(1, N_CLASSES + 1)
    loss = HierarchicalFocalLoss(FocalLoss(), counts).double()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(
        12, N_CLASSES, generator=generator, dtype=torch.float64, requires_grad=True
    )
    labels = torch.randint(0, N_CLASSES, (12,), generator=generator)
    assert torch.autograd.gradcheck(lambda given: loss(given, labels), (logits,))


def test_low_precision_is_reckoned_in_float32():
    logits = torch.randn(8, N_CLASSES, generator=torch.Generator().manual_seed(0)) * 20
    labels = torch.arange(8)
    loss = HierarchicalFocalLoss(FocalLoss(), EVEN)
    half = loss(logits.bfloat16(), labels)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(logits.bfloat16().float(), labels))


def test_it_holds_no_weights():
    loss = HierarchicalFocalLoss(FocalLoss(), EVEN)
    assert not loss.state_dict() and not list(loss.parameters())
    assert len(CODES) == loss.soft.shape[0]
