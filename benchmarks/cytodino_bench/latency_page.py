"""A latency report as one HTML page that needs nothing else, in the parity page's dress."""

from collections.abc import Sequence

from cytodino.page.markup import Html, badge, fragment, share, table, tag, text
from cytodino.page.style import STYLE
from cytodino_bench.latency_chart import draw_latency
from cytodino_bench.latency_report import OFFLINE, SINGLE_STREAM, LatencyReport, Loaded, Timing

__all__ = ["latency_page", "page"]

_EXTRA = """
svg.drawing { width: 100%; max-width: 860px; height: auto; display: block; margin: 22px 0 6px; }
"""

_WORDS = (
    ("single stream", "one crop a query, the next sent when it is answered (MLPerf's name)"),
    ("offline", "all crops at hand at once, given in batches (MLPerf's name)"),
    ("p50, p90, p99", "percentiles of the timed calls; one that so few calls cannot show is –"),
    ("spread", "interquartile range of the calls as a share of their median"),
    ("load", "library imported and model opened, in a process of its own; again: from the cache"),
    ("peak memory", "most that was resident in that process"),
    ("same class", "golden cells given the PyTorch model's class, measured in this run"),
)


def latency_page(report: LatencyReport) -> str:
    """Write the page as text."""
    machine = report.machine
    height, width = report.crop_size
    body = (
        tag("h1", text("Speed on this machine")),
        tag("p", text(f"{machine.cpu}, {machine.cores} cores, {machine.system}"), class_="lead"),
        tag(
            "p",
            text(
                f"{report.crops} golden crops of {height} x {width} px, {report.rounds} rounds in "
                "which all engines, variants and batch sizes took turns."
            ),
            class_="soft",
        ),
        draw_latency(report).inline(),
        _speeds(report),
        _starts(report.loaded),
        _facts("Machine", _machine_facts(report)),
        _facts("Words", _WORDS),
        tag("footer", text("Research software, not a medical device.")),
    )
    return page("Speed on this machine", body)


def page(title: str, body: Sequence[Html]) -> str:
    """Write a whole page around its main part."""
    head = tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", text(title)),
        tag("style", Html(STYLE + _EXTRA)),
    )
    whole = tag("html", head, tag("body", tag("main", *body)), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _speeds(report: LatencyReport) -> Html:
    energy = bool(report.energy_sources)
    heads = ["engine", "variant", "batch", "p50 ms", "p90 ms", "p99 ms", "spread", "images/s"]
    heads += ["J a crop"] if energy else []
    parts = []
    for scenario in (OFFLINE, SINGLE_STREAM):
        pairs = [(one, t) for one in report.loaded for t in one.timings if t.scenario == scenario]
        if not pairs:
            continue
        rows = [_speed_row(one, timing, energy) for one, timing in pairs]
        parts += [
            tag("h3", text(scenario.capitalize())),
            table((*heads, "same class", "parity"), rows, figures=range(2, len(heads) + 1)),
        ]
    return tag("section", tag("h2", text("Speed, and beside it parity")), *parts)


def _speed_row(one: Loaded, timing: Timing, energy: bool) -> list[Html]:
    figures = [
        str(timing.batch_size),
        *(_ms(value) for value in (timing.p50_ms, timing.p90_ms, timing.p99_ms)),
        f"{100 * timing.spread:.0f} %",
        f"{timing.images_per_second:.1f}",
    ]
    if energy:
        figures.append("–" if timing.joules_a_crop is None else f"{timing.joules_a_crop:.2f}")
    same = f"{share(one.agreement)} of {one.parity_n}"
    return [*map(text, (*_names(one), *figures, same)), badge(one.verdict)]


def _starts(loaded: Sequence[Loaded]) -> Html:
    heads = ("engine", "variant", "load s", "again s", "first result s", "again s", "peak memory")
    rows = []
    for one in loaded:
        start = one.start
        memory = "–" if start.peak_memory is None else f"{start.peak_memory / 2**20:.0f} MiB"
        seconds = (
            start.load_s,
            start.load_again_s,
            start.first_result_s,
            start.first_result_again_s,
        )
        said = ["–" if value is None else f"{value:.2f}" for value in seconds]
        name, variant = _names(one)
        rows.append([*map(text, (name, f"{variant} {one.purpose}", *said, memory))])
    return tag(
        "section", tag("h2", text("Start and memory")), table(heads, rows, figures=range(2, 7))
    )


def _machine_facts(report: LatencyReport) -> list[tuple[str, str]]:
    machine = report.machine
    versions = {"python": machine.python, **machine.versions}
    load = "not told" if report.load_average is None else f"{report.load_average:.2f}"
    return [
        ("bundle", f"{report.bundle}, {report.bundle_sha256}"),
        ("instructions", ", ".join(machine.flags) or "none of interest"),
        ("GPU driver", machine.gpu_driver or "none"),
        ("load average at the start", load),
        ("energy counters", ", ".join(report.energy_sources) or "none readable"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _facts(title: str, facts: Sequence[tuple[str, str]]) -> Html:
    listed = fragment(
        part for name, said in facts for part in (tag("dt", text(name)), tag("dd", text(said)))
    )
    return tag("section", tag("h2", text(title)), tag("dl", listed))


def _names(one: Loaded) -> tuple[str, str]:
    about = one.description
    return f"{about.engine} ({about.device})", about.variant


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
