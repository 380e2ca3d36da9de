"""From timed queries and logits to a line for each peer, and the ratios that are promised."""

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from cytodino.errors import ParityError
from cytodino.limits import Limits
from cytodino.parity import compare
from cytodino_bench.peer_kinds import Peer
from cytodino_bench.peers_report import PeerResult

__all__ = ["conclude", "promised_ratios"]

_BY_HINT = ("OpenVINO NNCF", "OpenVINO NNCF THROUGHPUT", "OpenVINO NNCF THROUGHPUT, batch 1")
"""OpenVINO as a user calls it who gives it a file and, at most, a hint."""


def conclude(
    peer: Peer,
    failures: Mapping[str, str],
    logits: Mapping[str, NDArray[np.float32]],
    seconds: Mapping[str, Sequence[float]],
    reference: str,
    query: int,
    limits: Mapping[str, Limits],
) -> PeerResult:
    """Sum one peer up: its speed and its answers, against the reference's.

    Parameters
    ----------
    peer : Peer
    failures : mapping
        Why a peer has no figures, by name.
    logits : float32 (n, 21) by name
    seconds : by name
        Of each timed query, in the order of the rounds.
    reference : str
        Name of the peer that the others are measured by.
    query : int
        Crops in a query.
    limits : Limits by variant
    """
    known = {"name": peer.name, "library": peer.library, "precision": peer.precision}
    if peer.name in failures:
        return PeerResult(**known, failure=failures[peer.name])
    try:
        report = compare(logits[reference], logits[peer.name], limits[peer.precision])
    except ParityError as error:
        return PeerResult(**known, failure=error.what)
    rounds = min(len(seconds[reference]), len(seconds[peer.name]))
    theirs, own = (np.asarray(seconds[name][:rounds]) for name in (reference, peer.name))
    ratios = theirs / own  # (rounds,): both took their turn in the same round
    low, middle, high = (float(value) for value in np.percentile(ratios, [25, 50, 75]))
    return PeerResult(
        **known,
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        images_per_second=query / median(seconds[peer.name]),
        agreement=report.agreement,
        probability_max=report.probability_max,
        margin_flipped=max((flip.margin for flip in report.flips), default=0.0),
        verdict=report.verdict,
    )


def promised_ratios(results: Sequence[PeerResult]) -> dict[str, float]:
    """Work out the ratios that the project promises, of what was measured."""
    speed = {
        one.name: one.ratio
        for one in results
        # What did not pass here is not ours to boast of, whatever its bundle says.
        if one.ratio is not None and (one.library != "cytodino" or one.verdict == "passed")
    }
    passing = [
        one.ratio
        for one in results
        if one.ratio is not None and one.library != "cytodino" and one.verdict == "passed"
    ]

    def best(*beginnings: str) -> float | None:
        found = [ratio for name, ratio in speed.items() if name.startswith(beginnings)]
        return max(found, default=None)

    pairs = {
        "best that passes, by PyTorch eager fp32": (
            best("CytoDINO"),
            speed.get("PyTorch eager fp32"),
        ),
        "best that passes, by PyTorch eager fp32 as trained, its adapter not merged": (
            best("CytoDINO"),
            speed.get("PyTorch eager fp32 as trained"),
        ),
        "best that passes, by the best peer that passes": (
            best("CytoDINO"),
            max(passing, default=None),
        ),
        "best that passes, by OpenVINO and NNCF, default or THROUGHPUT": (
            best("CytoDINO"),
            max((speed[name] for name in _BY_HINT if name in speed), default=None),
        ),
        "best that passes, by OpenVINO and NNCF, its batch fixed too": (
            best("CytoDINO"),
            speed.get("OpenVINO NNCF THROUGHPUT, static"),
        ),
        "best that passes, by the best of optimum and onnxruntime": (
            best("CytoDINO"),
            best("optimum", "onnxruntime"),
        ),
        "onnxruntime fp32, by the plain export's": (
            speed.get("CytoDINO onnxruntime fp32"),
            speed.get("onnxruntime fp32"),
        ),
        "onnxruntime INT8, by the best made from the plain export": (
            speed.get("CytoDINO onnxruntime int8"),
            best("onnxruntime static", "onnxruntime dynamic", "optimum static", "optimum dynamic"),
        ),
    }
    return {name: ours / theirs for name, (ours, theirs) in pairs.items() if ours and theirs}
