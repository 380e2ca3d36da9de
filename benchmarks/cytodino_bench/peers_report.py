"""What `cytodino-bench peers` measured: as a record, a table and a chart."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from cytodino.engines.tuned import Configuration
from cytodino.machine import Machine
from cytodino.parity import Verdict
from cytodino.paths import PrintableText
from cytodino_bench.charts import Bar, Panel, bar_chart
from cytodino_bench.drawing import Drawing, Role
from cytodino_bench.tables import open_console, plain_table

__all__ = ["EndToEnd", "PeerResult", "PeersReport", "draw_peers", "print_peers"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PeerResult(_Record):
    """One way to run the weights."""

    name: str
    library: str
    """pytorch, onnxruntime, optimum, openvino or cytodino."""
    failure: str | None = None
    """Why there are no figures."""
    ratio: float | None = None
    """Speed by PyTorch eager fp32's: the median over rounds in which both took turns."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    """Quartiles over the rounds."""
    images_per_second: float | None = None
    """Median over the rounds."""
    agreement: float | None = None
    """Share of cells given PyTorch eager fp32's class, 0 to 1."""
    probability_max: float | None = None
    """Largest change of a probability, 0 to 1."""
    margin_flipped: float | None = None
    """Clearest margin of the reference among cells that changed class; 0 where none did."""
    verdict: Verdict | None = None
    """By the gate's limits for `precision`."""
    precision: str
    """fp32, bf16, fp16 or int8."""
    configuration: Configuration | None = None
    """Of what is ours: how it was opened."""


class EndToEnd(_Record):
    """A plain loop and `classify` over one archive, crops a second from start to end."""

    archive: str
    crops: int
    crops_plain: int
    """Crops that the plain loop did: the first of the same archive."""
    plain: float | None
    """A loop of h5py slices, Pillow and PyTorch eager fp32, its start not counted."""
    classify: float | None
    """`cytodino-batch classify`, start not counted."""
    ratio: float | None
    failure: str | None = None


class PeersReport(_Record):
    """What `cytodino-bench peers` measured."""

    run: PrintableText
    bundle_sha256: str
    machine: Machine
    load_average: float | None
    crop_size: tuple[int, int]
    cells: int
    """Different crops, all compared; queries go through them in turn."""
    query: int
    """Crops in one turn."""
    batch_size: int
    """Crops in one call, where the peer is called in batches."""
    rounds: int
    peers: tuple[PeerResult, ...]
    """The first is PyTorch eager fp32."""
    must_show: dict[str, float]
    """The ratios that the project promises, by name."""
    end_to_end: tuple[EndToEnd, ...] = ()


def print_peers(report: PeersReport) -> None:
    """Print all peers, fastest first, then the ratios that are promised, on stdout."""
    console = open_console()
    table = plain_table(
        ("peer", "ratio", "images/s", "same class", "max |dp|", "clearest flip", "parity"),
        "ratio: speed by PyTorch eager fp32, median of rounds by turns, quartiles beside it; "
        "parity by the gate's limits",
    )
    for one in _sorted(report.peers):
        if one.ratio is None:
            continue
        table.add_row(
            one.name,
            f"{one.ratio:.2f} ({one.ratio_low:.2f}-{one.ratio_high:.2f})",
            f"{one.images_per_second:.1f}",
            f"{one.agreement:.2%}",
            f"{one.probability_max:.1e}",
            f"{one.margin_flipped:.3f}",
            f"{one.verdict} ({one.precision})",
        )
    console.print(table)
    for one in report.peers:
        if one.failure is not None:
            console.print(f"without {one.name}: {one.failure}", markup=False)
    for name, ratio in report.must_show.items():
        console.print(f"{name}: {ratio:.2f}")
    for end in report.end_to_end:
        if end.ratio is None:
            console.print(f"end to end, {end.archive}: {end.failure}")
        else:
            console.print(
                f"end to end, {end.archive}: classify {end.classify:.1f}, plain loop "
                f"{end.plain:.1f} crops/s, ratio {end.ratio:.2f}"
            )


def draw_peers(report: PeersReport) -> Drawing:
    """Draw the ratios, fastest first; ours in blue, what strays beyond its limits in vermilion."""
    bars = [
        Bar(
            name=one.name,
            value=one.ratio,
            said=f"{one.ratio:.2f} x" + (", fails parity" if one.verdict == "failed" else ""),
            role=_role(one),
        )
        for one in _sorted(report.peers)
        if one.ratio is not None
    ]
    height, width = report.crop_size
    machine = report.machine
    return bar_chart(
        "The same weights on the same crops",
        f"{machine.cpu}, {machine.cores} cores; {report.rounds} rounds by turns, crops of "
        f"{height} x {width} px",
        [Panel("Times as fast as PyTorch eager fp32; CytoDINO in blue", bars)],
    )


def _role(one: PeerResult) -> Role:
    if one.verdict == "failed":
        return "bad"
    return "good" if one.library == "cytodino" else "bar"


def _sorted(peers: Sequence[PeerResult]) -> list[PeerResult]:
    return sorted(peers, key=lambda one: -(one.ratio or 0.0))
