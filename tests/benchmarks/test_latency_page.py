from html.parser import HTMLParser

from cytodino.engines import EngineDescription
from cytodino.machine import Machine
from cytodino_bench.cold_start import ColdStart
from cytodino_bench.latency_chart import draw_latency
from cytodino_bench.latency_page import latency_page
from cytodino_bench.latency_report import LatencyReport, Loaded, summarise


def loaded(variant: str, verdict: str, seconds: float, *, joules: float | None = None) -> Loaded:
    calls = [seconds] * 20
    return Loaded(
        description=EngineDescription(
            engine="openvino",
            variant=variant,
            device="cpu",
            provider="CPU",
            version="1",
            options={},
        ),
        start=ColdStart(
            load_s=1.25,
            first_result_s=1.5,
            load_again_s=0.5,
            first_result_again_s=0.75,
            peak_memory=300 * 2**20,
        ),
        parity_n=256,
        agreement=0.99,
        probability_max=0.01,
        verdict=verdict,
        timings=(
            summarise("single stream", 1, [call / 4 for call in calls], joules),
            summarise("offline", 8, calls, joules),
        ),
    )


def report(*found: Loaded, sources: tuple[str, ...] = ()) -> LatencyReport:
    return LatencyReport(
        bundle="b<undle",
        bundle_sha256="c" * 64,
        machine=Machine(
            cpu="A CPU & more",
            flags=("avx2",),
            cores=2,
            system="Linux",
            python="3.12",
            versions={"numpy": "2"},
        ),
        load_average=0.25,
        energy_sources=sources,
        crop_size=(250, 250),
        crops=256,
        rounds=20,
        warm_up_calls=3,
        loaded=found,
    )


class Tags(HTMLParser):
    """Balanced tags, and whatever would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = latency_page(report(loaded("int8", "passed", 0.1), loaded("bf16", "failed", 0.2)))
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.fetched == []
    assert "@import" not in page
    assert "url(" not in page


def test_the_page_says_what_was_measured() -> None:
    page = latency_page(report(loaded("int8", "passed", 0.1)))
    for words in ("A CPU &amp; more", "b&lt;undle", "80.0", "100.00", "25.00", "99.00 % of 256"):
        assert words in page
    for words in ("passed", "300 MiB", "1.25", "avx2", "none readable"):
        assert words in page
    assert "J a crop" not in page


def test_energy_has_a_column_where_it_was_counted() -> None:
    found = loaded("int8", "passed", 0.1, joules=80.0)
    page = latency_page(report(found, sources=("package-0",)))
    assert "J a crop" in page
    assert "package-0" in page
    assert "0.50" in page


def test_the_chart_puts_the_best_first_and_marks_what_fails() -> None:
    drawing = draw_latency(report(loaded("bf16", "failed", 0.2), loaded("int8", "passed", 0.1)))
    said = [shape.said for shape in drawing.shapes if hasattr(shape, "said")]
    names = [word for word in said if word.startswith("openvino")]
    assert names == [
        "openvino int8, batch 8",
        "openvino bf16, batch 8",
        "openvino int8",
        "openvino bf16",
    ]
    assert "40.0 images/s, fails parity" in said
    assert {shape.role for shape in drawing.shapes if hasattr(shape, "width")} == {"good", "bad"}


def test_a_chart_of_one_scenario_has_one_panel() -> None:
    one = loaded("int8", "passed", 0.1)
    alone = one.model_copy(update={"timings": one.timings[:1]})
    svg = draw_latency(report(alone)).svg()
    assert "Single stream: 90th percentile" in svg
    assert "Offline" not in svg


def test_few_calls_show_a_median() -> None:
    one = loaded("int8", "passed", 0.1)
    few = one.model_copy(update={"timings": (summarise("single stream", 1, [0.025] * 5),)})
    assert "Single stream: median" in draw_latency(report(few)).svg()
