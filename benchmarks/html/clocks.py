"""What the machine did during the run: its clocks, its load, and when the GPU was held back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median
from xml.etree.ElementTree import Element

from benchmarks.html import axes
from benchmarks.html.markup import element, plural, tip
from benchmarks.outcome import Sighting
from benchmarks.results import Results

TITLE = "Clocks and load"
MOST_POINTS = 200
_GAP = 32


@dataclass(frozen=True)
class Moment:
    """What was seen in one stretch of the run. `at`: minutes since its start; None: the machine does not tell."""

    at: float
    cpu: tuple[float, float, float] | None
    gpu: float | None
    watts: float | None
    load: float | None
    throttle: tuple[str, ...]


Value = Callable[[Moment], float | None]


def moments(results: Results) -> list[Moment]:
    """All sightings in the order of time, thinned out to `MOST_POINTS` by joining neighbours."""
    seen = sorted(
        ((trace.started_s + each.at_s, each) for trace in results.traces for each in trace.sightings),
        key=lambda pair: pair[0],
    )
    if not seen:
        return []
    start, size = seen[0][0], -(-len(seen) // MOST_POINTS)
    parts = [seen[n : n + size] for n in range(0, len(seen), size)]
    return [_join((part[0][0] - start) / 60, [each for _, each in part]) for part in parts]


def _join(at: float, seen: Sequence[Sighting]) -> Moment:
    cpu = [each.cpu_mhz for each in seen if each.cpu_mhz]
    gpu = [each.gpu_mhz for each in seen if each.gpu_mhz is not None]
    watts = [each.gpu_w for each in seen if each.gpu_w is not None]
    load = [each.load for each in seen if each.load is not None]
    return Moment(
        at=at,
        cpu=(min(c[0] for c in cpu), median(c[1] for c in cpu), max(c[2] for c in cpu)) if cpu else None,
        gpu=median(gpu) if gpu else None,
        watts=median(watts) if watts else None,
        load=max(load, default=None),
        throttle=tuple(sorted({reason for each in seen for reason in each.throttle})),
    )


def render(results: Results) -> Element:
    """A strip a quantity, one above the other, over the run's time."""
    seen = moments(results)
    strips = [(name, height, of) for name, height, of in _strips(results) if any(of(m) is not None for m in seen)]
    if not strips:
        return axes.words(TITLE, "The machine told nothing about its clocks and its load.", data_chart="clocks")
    x = axes.Scale(0, max(seen[-1].at, 0.1) * 1.01, axes.LEFT, axes.RIGHT)
    top, parts = float(axes.TOP), []
    for name, height, of in strips:
        parts.append(_strip(name, seen, of, x, top, top + height))
        top += height + _GAP
    bottom = top - _GAP
    held = _held(seen)
    chart = axes.svg(
        f"{', '.join(name for name, _, _ in strips)} over {seen[-1].at:.1f} minutes",
        axes.x_axis(x, "minutes since the run began", axes.TOP, bottom),
        *parts,
        *(_throttle(span, x, bottom) for span in held),
        height=bottom + 40,
    )
    return axes.figure(TITLE, _caption(seen, len(held)), chart, data_chart="clocks")


def _caption(seen: Sequence[Moment], held: int) -> str:
    words = ["Lines: medians, of threads the most."]
    if any(moment.cpu for moment in seen):
        words.append("Band: slowest to fastest core.")
    if held:
        words.append(f"▲: the GPU was held back, {plural(held, 'time')}.")
    elif any(moment.gpu for moment in seen):
        words.append("The GPU was never held back.")
    return " ".join(words)


def _strips(results: Results) -> list[tuple[str, float, Value]]:
    return [
        ("CPU, MHz", 84, lambda moment: moment.cpu[1] if moment.cpu else None),
        ("GPU, MHz", 84, lambda moment: moment.gpu),
        ("GPU, W", 56, lambda moment: moment.watts),
        (f"threads that run or want to ({plural(results.environment.cores, 'core')})", 56, lambda moment: moment.load),
    ]


def _strip(name: str, seen: Sequence[Moment], of: Value, x: axes.Scale, top: float, bottom: float) -> Element:
    kind = name.split()[0].strip(",").lower()
    known = [moment for moment in seen if of(moment) is not None]
    values = [value for moment in known if (value := of(moment)) is not None]
    ends = [end for moment in known if moment.cpu for end in moment.cpu] if kind == "cpu" else [0.0]
    y = axes.spread([*values, *ends], bottom, top)
    stretches = _stretches(known)
    bands = [_band([(x(m.at), y(m.cpu[0]), y(m.cpu[2])) for m in stretch if m.cpu]) for stretch in stretches]
    line = "".join(
        "M" + "L".join(f"{x(moment.at):.1f} {y(of(moment) or 0.0):.1f}" for moment in stretch) for stretch in stretches
    )
    middle = f"{name}: {median(values):g} in the middle, {min(values):g} to {max(values):g}"
    ticks = [tick for tick in y.ticks() if tick >= 0][::2]
    drawn = element(
        "g", *(bands if kind == "cpu" else ()), element("path", d=line), class_=f"strip {kind}", **tip(middle)
    )
    return element("g", axes.y_axis(y, name, ticks), drawn)


def _stretches(seen: Sequence[Moment]) -> list[list[Moment]]:
    """Cut where nobody looked for long: between two cells of this experiment those of another may have run."""
    gaps = [after.at - before.at for before, after in pairwise(seen)]
    limit = 5 * median(gaps) if gaps else 0.0
    cuts = [0, *(n for n, gap in enumerate(gaps, start=1) if gap > limit), len(seen)]
    return [list(seen[first:last]) for first, last in pairwise(cuts)]


def _band(places: Sequence[tuple[float, float, float]]) -> Element:
    over = "L".join(f"{x:.1f} {high:.1f}" for x, _, high in places)
    under = "L".join(f"{x:.1f} {low:.1f}" for x, low, _ in reversed(places))
    return element("path", d=f"M{over}L{under}z", class_="band")


def _held(seen: Sequence[Moment]) -> list[list[Moment]]:
    """Moments one after the other with the same reasons to hold the clock back."""
    return [list(span) for reasons, span in groupby(seen, key=lambda moment: moment.throttle) if reasons]


def _throttle(span: Sequence[Moment], x: axes.Scale, bottom: float) -> Element:
    first, last = x(span[0].at), x(span[-1].at)
    when = f"{span[0].at:.1f} to {span[-1].at:.1f} min"
    d = f"M{first:.1f} {bottom - 10:.1f}l4.5 9h-9zM{first:.1f} {bottom - 4:.1f}H{last:.1f}v3H{first:.1f}z"
    return element("path", d=d, class_="throttle", **tip("held back: " + ", ".join(span[0].throttle), when))
