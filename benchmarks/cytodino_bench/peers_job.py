"""One run of `cytodino-bench peers`: bundle and cells found or made, then measured."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cytodino.bundle import open_bundle
from cytodino.bundle.golden import load_golden
from cytodino.bundle.reference import require_its_run
from cytodino.errors import InputError, MissingPathError
from cytodino.paths import hash_file
from cytodino.run import open_run
from cytodino.run_manifest import MANIFEST
from cytodino_bench.end_to_end import compare_end_to_end
from cytodino_bench.latency import most_frequent_size
from cytodino_bench.peer_kinds import PEERS
from cytodino_bench.peers import measure_peers
from cytodino_bench.peers_report import PeersReport
from cytodino_bench.programs import run_program

__all__ = ["run_peers"]


def run_peers(
    run: Path,
    *,
    bundle: Path | None = None,
    work: Path | None = None,
    query: int = 32,
    batch_size: int = 8,
    rounds: int = 10,
    archives: Sequence[Path] = (),
    plain_crops: int = 256,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int], None] = lambda total: None,
) -> PeersReport:
    """Measure a run's weights through everything, and whole archives if any are named.

    Parameters
    ----------
    run : Path
    bundle : Path, optional
        Exported from the run; without it, it is exported to the work folder.
    work : Path, optional
        For the peers' files; temporary unless given.
    query, batch_size, rounds : int
        As in `measure_peers`.
    archives : sequence of Path
    plain_crops : int
        Crops of an archive that the plain loop does.
    say, progress : callable

    Raises
    ------
    MissingPathError, InputError
        If there is no such run, or it is not the bundle's.
    BundleError, EngineError
        If the bundle is damaged, cannot be made, or PyTorch itself does not run.
    """
    has_adapter = open_run(run).manifest.lora is not None
    if bundle is not None and not bundle.exists():
        raise MissingPathError(bundle)
    with tempfile.TemporaryDirectory(prefix="cytodino-peers-") as temporary:
        # What is made of one run is of no use to another.
        folder = (work or Path(temporary)) / hash_file(run / MANIFEST)[:12]
        if bundle is None:
            bundle = _export(run, folder / "bundle", say)
        opened = open_bundle(bundle)
        require_its_run(opened, run)
        crops = most_frequent_size(load_golden(opened).crops)
        if len(crops) < batch_size:
            raise InputError(
                f"{len(crops)} golden cells of one size", mend="give a smaller --batch-size"
            )
        report = measure_peers(
            run,
            bundle,
            crops,
            folder,
            # What was trained without an adapter has nothing to merge.
            peers=[one for one in PEERS if has_adapter or not one.adapted],
            query=query,
            batch_size=batch_size,
            rounds=rounds,
            say=say,
            progress=progress,
        )
        ends = []
        for archive in archives:
            say(f"classifying {archive.name}, and by a plain loop")
            ends.append(compare_end_to_end(run, bundle, archive, plain_crops=plain_crops))
    return report.model_copy(update={"end_to_end": tuple(ends)})


def _export(run: Path, bundle: Path, say: Callable[[str], None]) -> Path:
    if not bundle.exists():
        say("exporting the run in FP32 and INT8")
        bundle.parent.mkdir(parents=True, exist_ok=True)
        precisions = ("--precision", "fp32", "--precision", "int8")
        words = ("onnx", run, "--out", bundle, *precisions, "--allow-failing")
        run_program("cytodino-export", *words, accept=(0, 4))
    return bundle
