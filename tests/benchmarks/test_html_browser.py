"""The HTML report in a browser without a network: what it draws, and what it does when somebody uses it."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from html_cases import broken, results, three, unavailable

from benchmarks import html
from benchmarks.html import page as page_module
from benchmarks.results import Results

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)


class Tab:
    """A page and all it said and asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))

    def column(self, title: str) -> list[str]:
        """What the rows that are shown say in a column, without the remark."""
        return self.page.evaluate(
            """title => {
                const headings = [...document.querySelectorAll('#rows thead th')];
                const column = headings.findIndex(heading => heading.textContent === title);
                const rows = [...document.querySelectorAll('#rows tbody tr')].filter(row => !row.hidden);
                return rows.map(row => row.cells[column].firstChild.textContent);
            }""",
            title,
        )

    def shown(self, selector: str) -> int:
        return self.page.locator(selector).evaluate_all("all => all.filter(each => each.checkVisibility()).length")

    def heading(self, title: str) -> Any:
        return self.page.locator("#rows thead th", has=self.page.get_by_role("button", name=title, exact=True))


Open = Callable[..., Tab]
CASES: dict[str, Callable[[], list[Results]]] = {
    "one": lambda: [results()],
    "three": three,
    "broken": lambda: [broken()],
    "bad": lambda: [broken(), unavailable()],
}


@cache
def page_of(case: str) -> str:
    return html.render(CASES[case]())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # Containers as a rule have no user namespaces for the sandbox; it opens our own file only.
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    contexts = []

    def open_(text: str, **context: Any) -> Tab:
        file = tmp_path / html.FILE_NAME
        file.write_text(text, encoding="utf-8")
        contexts.append(browser.new_context(reduced_motion="reduce", **context))
        contexts[-1].set_offline(True)
        tab = Tab(contexts[-1].new_page())
        tab.page.goto(file.as_uri())
        return tab

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("case", ["three", "bad"])
def test_it_opens_without_a_network_and_without_a_complaint(open_page: Open, case: str) -> None:
    tab = open_page(page_of(case))
    assert tab.said == []
    assert len(tab.asked) == 1
    assert tab.asked[0].startswith("file://")


def test_control_a_script_error_is_seen(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = page_module._asset
    seeded = {"report.js": "\nthrow new Error('seeded');"}
    monkeypatch.setattr(page_module, "_asset", lambda name: asset(name) + seeded.get(name, ""))
    assert "error: seeded" in open_page(html.render([results()])).said[0]


@pytest.mark.parametrize(
    ("smuggled", "complaint"),
    [
        ("<script>window.smuggled = 1</script>", "script"),
        ("<img src='http://127.0.0.1:9/x.png'>", "127.0.0.1"),
        ("<style>body { background: red }</style>", "style"),
    ],
    ids=["script", "image", "style"],
)
def test_control_the_policy_stops_what_is_not_ours(open_page: Open, smuggled: str, complaint: str) -> None:
    tab = open_page(page_of("one").replace("</main>", f"{smuggled}</main>"))
    assert "Content Security Policy" in tab.said[0]
    assert complaint in tab.said[0]
    assert tab.page.evaluate("window.smuggled") is None


def test_one_group_of_charts_is_shown_an_experiment(open_page: Open) -> None:
    tab = open_page(page_of("three"))
    for chart in ("pareto", "ecdf", "stages", "clocks"):
        assert tab.shown(f"figure[data-chart={chart}]") == 3
    assert tab.shown("#e0 figure[data-chart=pareto] .mark[data-tip]") == 6
    assert tab.shown("#e0 figure[data-chart=ecdf] .line") == 6
    assert tab.shown("#e0 .stage[data-tip]") == 36
    assert tab.page.locator("#e0 .throttle").count() == 1


def test_marks_lie_where_their_numbers_say(open_page: Open) -> None:
    """Further right is slower, further up more accurate, and the filled ones are those that no other beats."""
    made = results()
    tab = open_page(page_of("one"))
    marks = tab.page.evaluate(
        """() => [...document.querySelectorAll('#e0 .plots:not([hidden]) .mark[data-tip]')].map(mark => {
            const at = mark.getBoundingClientRect();
            return [mark.getAttribute('aria-label').split('\\n')[0].split(' ·')[0],
                    at.x + at.width / 2, at.y + at.height / 2, mark.classList.contains('best')];
        })"""
    )
    rows = [row for row in made.rows if (row.batch, row.boundary) == (1, "model")]
    numbers = {}
    for row in rows:
        entry = made.accuracy_of(row)
        assert entry
        assert row.latency_ms_median
        numbers[f"{row.backend} {row.precision}"] = (row.latency_ms_median.value, entry.headline[1])
    assert [name for name, *_ in sorted(marks, key=lambda m: m[1])] == sorted(numbers, key=lambda n: numbers[n][0])
    for name, _, up, best in marks:
        ms, points = numbers[name]
        assert best == (not any(m < ms and p >= points for m, p in numbers.values()))
        for other, _, other_up, _ in marks:
            assert numbers[other][1] <= points or other_up < up


def test_curves_rise_from_left_to_right(open_page: Open) -> None:
    paths = open_page(page_of("one")).page.evaluate(
        """() => [...document.querySelectorAll('#e0 .plots:not([hidden]) .line > .curve > path')].map(path => {
            const length = path.getTotalLength();
            return [...Array(60).keys()].map(n => path.getPointAtLength(length * n / 59)).map(p => [p.x, p.y]);
        })"""
    )
    assert len(paths) == 6
    for path in paths:
        assert all(b[0] >= a[0] - 0.01 and b[1] <= a[1] + 0.01 for a, b in pairwise(path))
        assert path[0][1] - path[-1][1] == pytest.approx(240, abs=0.5)


@pytest.mark.parametrize("how", ["click", "keyboard"])
def test_sorting_orders_the_rows_and_says_so(open_page: Open, how: str) -> None:
    tab = open_page(page_of("broken"))

    def press(title: str) -> None:
        button = tab.page.get_by_role("button", name=title, exact=True)
        if how == "click":
            button.click()
        else:
            button.focus()
            tab.page.keyboard.press("Enter")

    press("median ms")
    values = tab.column("median ms")
    known = [float(value) for value in values if value != "–"]
    assert len(values) - len(known) == 3
    assert values[-3:] == ["–"] * 3
    assert known == sorted(known)
    assert tab.heading("median ms").get_attribute("aria-sort") == "ascending"
    press("median ms")
    known = [float(value) for value in tab.column("median ms")[:-3]]
    assert known == sorted(known, reverse=True)
    assert tab.column("median ms")[-3:] == ["–"] * 3
    assert tab.heading("median ms").get_attribute("aria-sort") == "descending"
    press("backend")
    assert tab.column("backend") == sorted(tab.column("backend"))
    assert tab.page.locator("#rows th[aria-sort]").count() == 1
    press("Δ points")
    points = [float(value.replace("−", "-")) for value in tab.column("Δ points") if value != "–"]
    assert points == sorted(points)
    assert points[0] < 0
    assert tab.said == []


def test_filters_choose_rows_and_charts(open_page: Open) -> None:
    tab = open_page(page_of("three"))
    tab.page.get_by_label("boundary").select_option("e2e")
    tab.page.get_by_label("batch").select_option("8")
    assert set(tab.column("boundary")) == {"e2e"}
    assert set(tab.column("batch")) == {"8"}
    assert tab.page.locator("#count").inner_text() == "36 of 126 rows"
    title = tab.page.locator("#e0 .plots:not([hidden]) h3").first
    assert title.inner_text() == "Accuracy and latency · e2e · batch 8"
    tab.page.get_by_label("experiment").select_option("seg/cgnet_camvid")
    assert [tab.page.locator(f"#e{n}").is_visible() for n in range(3)] == [False, True, False]
    assert tab.shown(".card") == 1
    tab.page.get_by_label("precision").select_option("int8")
    assert tab.column("backend") == ["onnxruntime"] * 2
    assert tab.shown("#e1 .line:not(.faded)") == 1
    tab.page.get_by_label("boundary").select_option("host")
    tab.page.get_by_label("scenario").select_option("offline")
    assert tab.column("backend") == []
    assert tab.page.locator("#e1 .nothing").is_visible()
    tab.page.get_by_role("button", name="Show all").click()
    # The page follows a form's reset a moment later; its policy forbids a polled function, which is evaluated text.
    playwright.expect(tab.page.locator("#count")).to_have_text("126 of 126 rows")
    assert tab.shown(".card") == 3
    assert tab.said == []


def _brightness(tab: Tab) -> int:
    colour = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.strip("rgb()").split(","))


def test_light_and_dark(open_page: Open) -> None:
    light, dark = (open_page(page_of("one"), color_scheme=scheme) for scheme in ("light", "dark"))
    assert _brightness(light) > 600
    assert _brightness(dark) < 150
    for tab, pressed in ((light, "true"), (dark, "false")):
        tab.page.get_by_role("button", name="Dark").click()
        assert tab.page.locator("#theme").get_attribute("aria-pressed") == pressed
    assert _brightness(light) < 150
    assert _brightness(dark) > 600


def test_paper_is_light_and_shows_what_a_screen_discloses(open_page: Open) -> None:
    tab = open_page(page_of("one"), color_scheme="dark")
    tab.page.get_by_role("button", name="Dark").click()
    tab.page.get_by_role("button", name="Dark").click()
    tab.page.emulate_media(media="print")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert _brightness(tab) > 600
    assert tab.page.get_by_text("Debian GNU/Linux 12").is_visible()
    assert not tab.page.locator("#filters").is_visible()


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("case", ["three", "bad"])
def test_a_phone_scrolls_down_only(open_page: Open, case: str) -> None:
    tab = open_page(page_of(case), viewport={"width": 360, "height": 740})
    tab.page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.page.evaluate(OVERFLOW) == 0
    box = tab.page.locator(".scroll:has(#rows)")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth"), "the table scrolls in its own box"
    tab.page.evaluate(
        "document.querySelector('main').append(Object.assign(document.createElement('pre'), {textContent: 'x'.repeat(99)}))"
    )
    assert tab.page.evaluate(OVERFLOW) > 0, "control: what is too wide is seen"


REACHABLE = """() => {
    const all = [...document.querySelectorAll('a[href], button, select, summary, [tabindex="0"]')];
    const shown = all.filter(each => each.checkVisibility());
    shown.forEach((each, n) => { each.dataset.n = n; });
    return shown.length;
}"""


def test_every_control_is_reached_with_the_tab_key(open_page: Open) -> None:
    tab = open_page(page_of("broken"))
    count = tab.page.evaluate(REACHABLE)
    assert count > 60
    tab.page.evaluate(
        """() => {
            window.reached = [];
            document.addEventListener('focusin', ({ target }) => {
                const style = getComputedStyle(target);
                const outlined = style.outlineStyle !== 'none' || parseFloat(style.strokeWidth) >= 3;
                window.reached.push([Number(target.dataset.n), outlined]);
            });
        }"""
    )
    for _ in range(count):
        tab.page.keyboard.press("Tab")
    order, outlined = zip(*tab.page.evaluate("window.reached"), strict=True)
    assert order == tuple(range(count)), "in the order of the page, none left out"
    assert all(outlined)


def test_the_first_tab_skips_to_the_results(open_page: Open) -> None:
    tab = open_page(page_of("one"))
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert tab.page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "main"


def test_tooltips_on_focus_and_hover(open_page: Open) -> None:
    tab = open_page(page_of("broken"))
    tip = tab.page.locator("#tip")
    assert not tip.is_visible()
    tab.page.locator("#e0 .plots:not([hidden]) .mark.best[data-tip]").first.focus()
    assert "on the front" in tip.inner_text()
    assert "ms [" in tip.inner_text()
    tab.page.keyboard.press("Escape")
    assert not tip.is_visible()
    tab.page.locator("#rows a[data-tip]").first.hover()
    assert "warm-up did not settle" in tip.inner_text()
    box, size = tip.bounding_box(), tab.page.viewport_size
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= size["width"]
    tab.page.mouse.move(2, 2)
    assert not tip.is_visible()
    tab.page.locator("#e0 .plots:not([hidden]) .line").first.focus()
    assert "median" in tip.inner_text()
    assert tip.is_visible()


def test_without_its_script_all_is_there(open_page: Open) -> None:
    tab = open_page(page_of("one"), java_script_enabled=False)
    assert tab.shown("figure[data-chart=pareto]") == 7
    assert tab.shown("#rows tbody tr") == 42
    assert not tab.page.locator("#filters").is_visible()
