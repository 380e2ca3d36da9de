"""The published loss: hierarchical focal loss with critical penalties.

Muminov and Pham, CytoDINO, arXiv 2512.17930, 2025. For a cell of class t with predicted
probabilities p:

    (1 - p_t)^gamma * alpha_t * sum_c(-S[t, c] * log p_c) * K[t, argmax p]

averaged over the batch. In the authors' version the soft labels S of both erythroid classes sum to
less than 1, since stages that have neighbours and nobody else lose the others' share; here the
neighbours take it.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cytodino.recipe import FocalLoss
from cytodino.taxonomy import CLASSES, CRITICAL, LINEAGES, MATURING, N_CLASSES, SAFE, index_of


class HierarchicalFocalLoss(nn.Module):
    """Mean loss of a batch, computed in float32 whatever the logits are.

    Parameters
    ----------
    settings : FocalLoss
    counts : int, (21,), training cells by class, from which the class weights are balanced
    """

    soft: torch.Tensor
    penalty: torch.Tensor
    weight: torch.Tensor

    def __init__(self, settings: FocalLoss, counts: np.ndarray) -> None:
        super().__init__()
        self.gamma = settings.gamma
        for name, values in (
            ("soft", soft_labels(settings)),
            ("penalty", critical_penalties(settings)),
            ("weight", class_weights(counts, settings.class_weight_power)),
        ):
            # Not a weight of the model: it follows from settings and data.
            tensor = torch.from_numpy(values).float()
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss.

        Parameters
        ----------
        logits : float, (n, 21)
        labels : int64, (n,), class index

        Returns
        -------
        float, (); its gradient flows through the focal factor too, not through the argmax
        """
        logs = functional.log_softmax(logits, dim=1, dtype=self.soft.dtype)  # (n, 21)
        entropy = -(self.soft[labels] * logs).sum(dim=1)  # (n,)
        known = logs.gather(1, labels[:, None])[:, 0].exp()  # (n,), p_t
        penalty = self.penalty[labels, logits.argmax(dim=1)]  # (n,)
        return ((1 - known) ** self.gamma * self.weight[labels] * entropy * penalty).mean()


def soft_labels(settings: FocalLoss) -> np.ndarray:
    """Return S, float64 (21, 21): the label of each class, spread a little over the others.

    A class keeps 1 - smoothing. Of the rest a share stays within the lineage, where stages next to
    it in maturation share `neighbour_share` and the others what is left, and all of it goes to
    whichever of the two there are; a class alone in its lineage leaves that share to the other
    lineages, whose classes share alike. Each row sums to 1.
    """
    table = np.zeros((N_CLASSES, N_CLASSES))
    for row, one in enumerate(CLASSES):
        members = LINEAGES[one.lineage]
        near = _neighbours(one.code, one.lineage)
        far = [code for code in members if code != one.code and code not in near]
        strangers = [other.code for other in CLASSES if other.lineage != one.lineage]
        within = settings.smoothing * settings.lineage_share if near or far else 0.0
        share = settings.neighbour_share if near and far else float(bool(near))
        table[row, row] = 1 - settings.smoothing
        for codes, mass in (
            (near, within * share),
            (far, within * (1 - share)),
            (strangers, settings.smoothing - within),
        ):
            for code in codes:
                table[row, index_of(code)] = mass / len(codes)
    return table


def critical_penalties(settings: FocalLoss) -> np.ndarray:
    """Return K, float64 (21, 21): rows the true class, columns the predicted one."""
    table = np.ones((N_CLASSES, N_CLASSES))
    critical, safe = ([index_of(code) for code in sorted(codes)] for codes in (CRITICAL, SAFE))
    table[np.ix_(critical, safe)] = settings.missed
    table[np.ix_(safe, critical)] = settings.alarmed
    return table


def class_weights(counts: np.ndarray, power: float) -> np.ndarray:
    """Return balanced class weights to a power, float64 (21,).

    Balanced is n / (classes that occur * cells of the class), as in scikit-learn; 1 for a class
    that does not occur.
    """
    present = counts > 0
    balanced = counts.sum() / (present.sum() * np.where(present, counts, 1))
    return np.where(present, balanced, 1.0) ** power


def _neighbours(code: str, lineage: str) -> list[str]:
    """Return the stages just before and after a class, where its lineage matures."""
    if lineage not in MATURING:
        return []
    stages = LINEAGES[lineage]
    place = stages.index(code)
    return [stages[near] for near in (place - 1, place + 1) if 0 <= near < len(stages)]
