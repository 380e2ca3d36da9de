"""A latency report as a picture: who answers most crops, who answers one soonest."""

from cytodino_bench.charts import Bar, Panel, bar_chart
from cytodino_bench.drawing import Drawing, Role
from cytodino_bench.latency_report import OFFLINE, SINGLE_STREAM, LatencyReport, Loaded, Timing

__all__ = ["draw_latency"]

ROLES: dict[str, Role] = {"passed": "good", "unproven": "bar", "failed": "bad"}


def draw_latency(report: LatencyReport) -> Drawing:
    """Draw throughput and latency, best first, in the colour of each one's parity."""
    pairs = [(one, timing) for one in report.loaded for timing in one.timings]
    offline = sorted(
        (pair for pair in pairs if pair[1].scenario == OFFLINE),
        key=lambda pair: -pair[1].images_per_second,
    )
    single = sorted(
        (pair for pair in pairs if pair[1].scenario == SINGLE_STREAM),
        key=lambda pair: pair[1].p90_ms or pair[1].p50_ms,
    )
    panels = []
    if offline:
        bars = [_bar(one, t, t.images_per_second, "images/s") for one, t in offline]
        panels.append(Panel("Offline: images/s, longer is better", bars))
    if single:
        tail = single[0][1].p90_ms is not None
        bars = [_bar(one, t, t.p90_ms or t.p50_ms, "ms") for one, t in single]
        name = "90th percentile" if tail else "median, too few calls for the 90th percentile,"
        panels.append(Panel(f"Single stream: {name} in ms, shorter is better", bars))
    height, width = report.crop_size
    verdicts = sorted({one.verdict for one in report.loaded})
    return bar_chart(
        f"{report.machine.cpu}, {report.machine.cores} cores",
        f"{report.rounds} rounds by turns, crops of {height} x {width} px, golden cells "
        f"{' and '.join(verdicts)}",
        panels,
    )


def _bar(one: Loaded, timing: Timing, value: float, unit: str) -> Bar:
    about = one.description
    where = "" if about.device == "cpu" else f" {about.device}"
    size = f", batch {timing.batch_size}" if timing.scenario == OFFLINE else ""
    failed = ", fails parity" if one.verdict == "failed" else ""
    return Bar(
        name=f"{about.engine}{where} {about.variant}{size}",
        value=value,
        said=f"{value:.1f} {unit}{failed}",
        role=ROLES[one.verdict],
    )
