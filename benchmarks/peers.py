"""Measure the same weights on the same crops through what people would use instead.

    python benchmarks/peers.py --backbone small --out runs/peers

Draws cells, writes a run with random weights whose last layer is solved on them, exports it in
FP32 and INT8, tunes the bundle to this machine, packs a JPEG and a gzip archive, and runs
`cytodino-bench peers` with all of it. A ViT-S/16 takes about 40 minutes on 2 cores, which
should have nothing else to do. What is in OUT already is used again. Prints the table and replaces
`benchmarks/results/peers.json` and `peers.svg`.
"""

import shutil
from pathlib import Path

import click
from PIL import Image

from cytodino.console import message
from cytodino_bench.files import write_chart, write_text
from cytodino_bench.peers_job import run_peers
from cytodino_bench.peers_report import draw_peers, print_peers
from cytodino_bench.programs import run_program
from cytodino_bench.random_run import draw_cells, write_run
from cytodino_bench.tune import tune_bundle
from cytodino_bench.tune_report import print_tuning

RESULTS = Path(__file__).parent / "results"
JUDGED = 256
"""Cells that the gate judges, that are kept as golden cells, and that peers are compared on."""


@click.command()
@click.option("--backbone", default="small", type=click.Choice(["tiny", "small", "base", "large"]))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--rounds", default=10, type=click.IntRange(min=1))
@click.option("--crops", default=3000, type=click.IntRange(min=1), help="Crops of an archive.")
@click.option("--tune/--no-tune", default=True, help="Tune the bundle first, and measure that too.")
def main(backbone: str, out: Path, rounds: int, crops: int, tune: bool) -> None:
    """Make everything in OUT that is not there, and measure."""
    cells, judged, run, bundle = (out / name for name in ("cells", "judged", "run", "bundle"))
    draw_cells(cells)
    draw_cells(judged, count=JUDGED, seed=1)
    message("drawing weights")
    write_run(run, cells, backbone, solve_head=True)
    if not bundle.exists():
        message("exporting")
        precisions = ("--precision", "fp32", "--precision", "int8")
        words = ("onnx", run, "--out", bundle, "--data", judged, "--golden", judged, *precisions)
        run_program("cytodino-export", *words, "--allow-failing", accept=(0, 4))
    if tune:
        print_tuning(tune_bundle(bundle, say=message))
    report = run_peers(
        run,
        bundle=bundle,
        work=out / "work",
        rounds=rounds,
        archives=_pack(out, judged, crops),
        say=message,
    )
    print_peers(report)
    RESULTS.mkdir(exist_ok=True)
    # The result is published: where it lay on this machine is nobody's concern.
    named = report.model_copy(update={"run": f"{backbone}, random weights, last layer solved"})
    write_text(RESULTS / "peers.json", named.model_dump_json(indent=2) + "\n")
    write_chart(RESULTS / "peers.svg", draw_peers(report))


def _pack(out: Path, judged: Path, count: int) -> tuple[Path, Path]:
    """Pack the judged cells, over and over and as JPEG files, as they are and as gzip."""
    many, jpeg, gzip = out / "many", out / "jpeg.h5", out / "gzip.h5"
    if many.exists() and len(list(many.rglob("*.jpg"))) != count:  # of another --crops
        shutil.rmtree(many)
        jpeg.unlink(missing_ok=True)
        gzip.unlink(missing_ok=True)
    if not many.exists():
        pictures = sorted(judged.rglob("*.png"))
        for index in range(count):
            source = pictures[index % len(pictures)]
            place = many / source.parent.name
            place.mkdir(parents=True, exist_ok=True)
            with Image.open(source) as picture:
                picture.save(place / f"{index:06}.jpg", quality=95)
    if not jpeg.exists():
        run_program("cytodino", "pack", many, jpeg, "--encoding", "jpeg")
    if not gzip.exists():
        run_program("cytodino", "pack", many, gzip, "--encoding", "raw", "--compression", "gzip")
    return jpeg, gzip


if __name__ == "__main__":
    main()
