"""The HTML report as text: what is in it, what never is, and what stands where something is missing."""

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from html_cases import broken, environment, results, three, unavailable

from benchmarks import html
from benchmarks.environment import Gpu
from benchmarks.html import axes, ecdf, pareto
from benchmarks.html.markup import milliseconds, signed
from benchmarks.results import Interval, Results

NASTY = """x</script><script>alert("1")</script><img src=http://a.example/b onerror='alert(2)'>&amp;"""


class Page(HTMLParser):
    """What a browser would make of a text: its tags with their attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(part for tag, parts in self.texts.items() if tag not in ("script", "style") for part in parts)


def charts(text: str) -> list[str]:
    return re.findall(r'<svg [^>]*class="chart"', text)


def test_the_same_results_give_the_same_page() -> None:
    assert html.render(three()) == html.render(three())


def test_three_experiments_stay_small() -> None:
    made = three()
    assert sum(len(each.rows) for each in made) == 126
    assert len(html.render(made).encode()) < 500_000


def test_a_gpu_is_named_with_what_its_driver_tells() -> None:
    gpu = Gpu(
        name="NVIDIA L4",
        driver="580.1",
        compute_capability="8.9",
        memory_mib=23034,
        power_limit_w=72.0,
        sm_clock_mhz=None,
        max_sm_clock_mhz=2040.0,
        application_clock_mhz=None,
        ecc=True,
        persistence=None,
        throttle_reasons=["SwPowerCap"],
    )
    text = Page(html.render([results().model_copy(update={"environment": environment(gpus=[gpu])})])).text
    assert (
        "NVIDIA L4, driver 580.1, compute capability 8.9, MiB 23034, W at most 72.0, MHz at most 2040.0, ECC yes"
        in text
    )
    assert "persistence" not in text


def test_the_inputs_are_named() -> None:
    shown = Page(html.render([results()])).text
    assert "240×320 to 333×500 (2 sizes)" in shown
    assert "An image goes through the graph in parts" not in shown
    windows = [row.model_copy(update={"unit": "window"}) for row in results().rows]
    assert (
        "An image goes through the graph in parts"
        in Page(html.render([results().model_copy(update={"rows": windows})])).text
    )


def test_no_experiments_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one experiment"):
        html.render([])


def test_every_tag_is_closed_and_every_id_is_there_once() -> None:
    page = Page(html.render([*three(), broken(), unavailable()]))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a") + page.all("use") if link["href"]} <= set(ids)


def test_a_name_or_a_reason_never_becomes_markup() -> None:
    made = broken()
    rows = [row.model_copy(update={"experiment": NASTY, "reason": row.reason and NASTY}) for row in made.rows]
    page = Page(html.render([made.model_copy(update={"experiment": NASTY, "rows": rows})]))
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert NASTY in page.texts["h3"]
    assert NASTY in page.texts["li"]


def test_control_markup_is_seen() -> None:
    assert len(Page(NASTY.removeprefix("x</script>")).all("script")) == 1


def test_nothing_is_fetched() -> None:
    text = html.render([*three(), broken()])
    assert not re.findall(r"(?:https?:|[\"'(=]\s*)//|@import|url\(|\bimport\(|\bfetch\(", text)
    page = Page(text)
    assert {link["href"][0] for link in page.all("a") + page.all("use") if link["href"]} == {"#"}
    assert not [attributes for _, attributes in page.tags if "src" in attributes or "style" in attributes]
    assert not page.all("link")


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_the_policy_lets_in_this_script_and_this_style_alone() -> None:
    page = Page(html.render([results()]))
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    script, style = ("".join(page.texts[tag]) for tag in ("script", "style"))
    assert rules == {
        "default-src": "'none'",
        "script-src": _digest(script),
        "style-src": _digest(style),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert _digest(script + " ") != rules["script-src"]


def test_what_is_not_ok_is_stamped_in_words_with_its_reason() -> None:
    made = broken()
    text = Page(html.render([made])).text
    for stamp in ("⚠ INVALID", "✕ FAILED", "∅ unavailable", "… pending"):
        assert text.count(stamp) == 2, "once in its row, once in the verdict"
    for row in made.rows:
        assert row.reason is None or row.reason in text
    assert "INVALID" not in Page(html.render([results()])).text.split("boundaries")[0]


def test_an_invalid_row_is_drawn_and_never_on_the_front() -> None:
    page = Page(html.render([broken()]))
    marks = [
        a["class"] or "" for a in page.all("path") if (a.get("class") or "").startswith("mark c") and "data-tip" in a
    ]
    invalid = [kind.split() for kind in marks if "invalid" in kind.split()]
    assert len(invalid) == 1
    assert "best" not in invalid[0]


def test_a_run_in_which_nothing_ran_says_so_in_place_of_each_chart() -> None:
    text = html.render([unavailable()])
    assert not charts(text)
    shown = Page(text).text
    assert "Nothing was measured" in shown
    assert "∅ unavailable: 42 rows" in shown
    for words in (
        "No row of this group has both a latency and an accuracy.",
        "No row of this group has samples.",
        "No row was taken apart into its stages.",
        "The machine told nothing about its clocks and its load.",
        "No accuracy was measured.",
    ):
        assert words in shown


def test_a_run_that_was_stopped_at_once_says_so() -> None:
    made = unavailable()
    rows = [row.model_copy(update={"status": "pending", "reason": "the run was stopped"}) for row in made.rows]
    shown = Page(html.render([made.model_copy(update={"rows": rows})])).text
    assert "Nothing was measured: the run was stopped" in shown
    assert "… pending: 42 rows" in shown


def _without(field: str) -> Callable[[Results], Results]:
    return lambda made: made.model_copy(update={field: type(getattr(made, field))()})


def _unstaged(made: Results) -> Results:
    return made.model_copy(update={"rows": [row.model_copy(update={"stages_ms": {}}) for row in made.rows]})


@pytest.mark.parametrize(
    ("change", "lost"),
    [(_without("traces"), 1), (_without("accuracy"), 7), (_without("samples_us"), 7), (_unstaged, 1)],
    ids=["traces", "accuracy", "samples", "stages"],
)
def test_what_is_missing_leaves_out_its_charts_alone(change: Callable[[Results], Results], lost: int) -> None:
    assert len(charts(html.render([results()]))) == 16
    assert len(charts(html.render([change(results())]))) == 16 - lost


def _strips(made: Results) -> tuple[list[str], str]:
    """The lines of the machine's strips, and the words above them."""
    found = re.search(r'<figure data-chart="clocks">.*?</figure>', html.render([made]), re.DOTALL)
    assert found
    groups = re.findall(r'<g class="strip.*?</g>', found[0], re.DOTALL)
    return [path for group in groups for path in re.findall(r'<path d="([^"]+)"></path>', group)], Page(found[0]).text


def test_the_machines_lines_break_where_nobody_looked() -> None:
    made = results()
    lines, words = _strips(made)
    assert [line.count("M") for line in lines] == [1, 1, 1, 1]
    assert "the GPU was held back, 1 time" in words
    early, late = made.traces[:20], made.traces[20:]
    later = [trace.model_copy(update={"started_s": trace.started_s + 600}) for trace in late]
    lines, _ = _strips(made.model_copy(update={"traces": [*early, *later]}))
    assert [line.count("M") for line in lines] == [2, 2, 2, 2]


def test_a_machine_without_a_gpu_says_nothing_of_one() -> None:
    made = results()
    bare = {"gpu_mhz": None, "gpu_w": None, "throttle": []}
    traces = [
        trace.model_copy(update={"sightings": [each.model_copy(update=bare) for each in trace.sightings]})
        for trace in made.traces
    ]
    lines, words = _strips(made.model_copy(update={"traces": traces}))
    assert len(lines) == 2
    assert "GPU" not in words


def _verdict(made: Results) -> str:
    found = re.search(r"<article.*?</article>", html.render([made]), re.DOTALL)
    assert found
    return " ".join(Page(found[0]).text.split())


def _changed(made: Results, engine: str, **changes: Any) -> Results:
    rows = [row.model_copy(update=changes) if f"{row.backend} {row.precision}" == engine else row for row in made.rows]
    return made.model_copy(update={"rows": rows})


def test_the_verdict_is_the_fastest_row_against_the_strongest_then_eager() -> None:
    made = results()
    said = _verdict(made)
    assert "onnxruntime int8 is 3.34× [3.11, 3.61] as fast as the strongest PyTorch row, pytorch-compile fp32" in said
    assert "5.31× [4.94, 5.74] as fast as eager PyTorch: 2.90 ms a call (model · batch 1, cpu)" in said
    assert "From file to prediction: onnxruntime int8, 2.36×" in said
    assert "top-1 91.60 % [89.20, 93.50] of 100 images; −0.40 [−0.70, −0.15] points from eager PyTorch." in said


def test_a_row_that_lost_its_accuracy_is_no_verdict() -> None:
    made = results()
    *others, last = made.accuracy
    values = {"top1_percent": 60.0}
    assert last.difference
    compared = last.difference.model_copy(update={"points": Interval(value=-32, low=-33, high=-31)})
    worse = last.model_copy(update={"values": values, "difference": compared})
    said = _verdict(made.model_copy(update={"accuracy": [*others, worse]}))
    assert "onnxruntime fp32 is 2.11×" in said
    assert "✕ ACCURACY LOST: onnxruntime int8" in said


def test_the_verdict_says_when_there_is_no_difference() -> None:
    level = _changed(results(), "onnxruntime int8", speedup=Interval(value=1.02, low=0.97, high=1.06))
    assert _verdict(level).count("no clear difference") == 3, "in both sentences and below the number"
    assert "The interval holds 1: no clear difference." in _verdict(level)
    assert "no clear difference" not in _verdict(results())


def test_the_verdict_says_when_pytorch_is_fastest() -> None:
    made = results()
    for engine in ("onnxruntime fp32", "onnxruntime int8"):
        made = _changed(made, engine, status="invalid", reason="the warm-up did not settle")
    said = _verdict(made)
    assert "pytorch-compile fp32, itself PyTorch, takes 9.70 ms a call" in said
    assert "Nothing that holds its accuracy is faster." in said


def test_without_accuracy_the_verdict_says_so() -> None:
    assert "Its accuracy was not measured." in _verdict(_without("accuracy")(results()))


def test_a_bundle_that_failed_its_parity_is_stamped() -> None:
    assert "✕ PARITY FAILED" in _verdict(results().model_copy(update={"parity_passed": False}))


def test_mcnemar_is_named_where_it_was_asked() -> None:
    counted, other = (Page(html.render([results(task=task)])).text for task in ("classification", "detection"))
    assert "2 / 4" in counted
    assert "McNemar's exact test" in counted
    assert "better / worse" not in other
    assert "McNemar's exact test" not in other


def test_every_task_has_its_own_headline() -> None:
    shown = Page(html.render(three())).text
    assert all(title in shown for title in ("top-1 %", "mIoU %", "mAP %", "IoU % onnxruntime int8"))


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1.0, 90.0), (2.0, 91.0), (3.0, 90.5)], [0, 1]),
        ([(1.0, 90.0), (2.0, 90.0)], [0]),
        ([(1.0, 90.0), (1.0, 90.0)], [0, 1]),
        ([(1.0, 90.0), (1.0, 91.0)], [1]),
    ],
)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto.front(points) == front


def test_quantiles_rise_and_are_few() -> None:
    found = ecdf.quantiles([[3000.0, 1000.0], [2000.0]])
    assert found == [1.0, 2.0, 3.0]
    many = ecdf.quantiles([list(np.random.default_rng(0).gamma(2, 1000, 5000))])
    assert len(many) == ecdf.MOST_QUANTILES <= 200
    assert many == sorted(many)


def test_a_curve_ends_where_its_last_quantile_lies() -> None:
    x, y = axes.Scale(1, 100, 0, 400, log=True), axes.Scale(0, 100, 200, 0)
    rng = np.random.default_rng(1)
    d = ecdf.path([*sorted(rng.uniform(1, 100, 90)), 100.0], x, y)
    steps = [(float(h), float(v)) for h, v in re.findall(r"h(-?[\d.]+)v(-?[\d.]+)", d)]
    first = re.match(r"M([\d.]+) ([\d.]+)V([\d.]+)", d)
    assert first
    assert len(steps) == 90
    assert all(across >= 0 and up <= 0 for across, up in steps)
    assert float(first[1]) + sum(across for across, _ in steps) == pytest.approx(400)
    assert float(first[3]) + sum(up for _, up in steps) == pytest.approx(0)


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (2.9, 15.4), (0.05, 4000), (41.0, 41.5), (99.2, 100.3)])
@pytest.mark.parametrize("log", [True, False])
def test_an_axis_has_a_few_ticks_in_order(low: float, high: float, log: bool) -> None:
    scale = axes.Scale(low, high, 0, 100, log)
    ticks = scale.ticks()
    assert 4 <= len(ticks) <= 15
    assert ticks == sorted(ticks)
    assert all(-1e-6 <= scale(tick) <= 100 + 1e-6 for tick in ticks)


def test_numbers_have_the_digits_that_count() -> None:
    assert [milliseconds(v) for v in (0.4821, 8.432, 31.26, 1204.4, None)] == ["0.482", "8.43", "31.3", "1204", "–"]
    assert [signed(v) for v in (-0.4, 0.25, -0.001)] == ["−0.40", "+0.25", "0.00"]
