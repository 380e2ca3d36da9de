"""Giving memory back changes nothing that is still in use."""

import torch

from cytodino_export.memory import give_back


def test_giving_back_changes_no_value() -> None:
    values = torch.arange(5)
    give_back()
    assert values.tolist() == [0, 1, 2, 3, 4]
