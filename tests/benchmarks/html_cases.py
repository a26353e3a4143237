"""Results made by hand, as a run on a small machine gives them: several precisions, and whatever can go wrong."""

from typing import Any

import numpy as np

from benchmarks.environment import Environment
from benchmarks.matrix import Boundary, Matrix, Precision, Scenario
from benchmarks.outcome import Sighting, Trace
from benchmarks.results import Accuracy, Comparison, Interval, Results, Row

Engine = tuple[str, Precision]
#: Engine → (milliseconds of one image in the graph, points of accuracy lost).
ENGINES: dict[Engine, tuple[float, float]] = {
    ("pytorch", "fp32"): (15.4, 0.0),
    ("pytorch", "bf16"): (12.9, 0.02),
    ("pytorch-channels-last", "fp32"): (13.8, 0.0),
    ("pytorch-compile", "fp32"): (9.7, 0.0),
    ("onnxruntime", "fp32"): (4.6, 0.0),
    ("onnxruntime", "int8"): (2.9, 0.4),
}
HEADLINES = {
    "classification": {"top1_percent": 92.0, "top5_percent": 99.0},
    "segmentation": {"miou_percent": 85.6, "macc_percent": 91.0, "aacc_percent": 94.2, "iou_percent/sky": 95.0},
    "detection": {"bbox_map_percent": 36.0, "bbox_map50_percent": 53.2},
}
_GROUPS: tuple[tuple[int, Boundary, Scenario], ...] = (
    *((batch, boundary, "stream") for batch in (1, 8) for boundary in ("model", "host", "e2e")),
    (8, "e2e", "offline"),
)
_MORE = {"model": 0.0, "host": 0.2, "e2e": 2.1}


def environment(**changes: Any) -> Environment:
    """A small machine without a GPU."""
    made = Environment(
        date_utc="2026-11-21T22:00:00+00:00",
        cpu_model="AMD EPYC",
        cores=2,
        threads=2,
        governor="performance",
        load_average_1m=0.31,
        memory_gib=23.5,
        os="Debian GNU/Linux 12 (bookworm), kernel 6.18",
        container=True,
        python="3.11.7",
        versions={"numpy": "2.4.6", "onnxruntime": "1.31.1", "torch": "2.11.0"},
        gpus=[],
        git_commit="5270632" + "0" * 33,
        git_dirty=False,
    )
    return made.model_copy(update=changes)


def row(experiment: str, engine: Engine, ms: float, **changes: Any) -> Row:
    """A row that is ok, of one image at the graph's boundary unless `changes` say otherwise."""
    made = Row(
        experiment=experiment,
        backend=engine[0],
        device="cpu",
        precision=engine[1],
        batch=1,
        boundary="model",
        artifact_sha256=f"{hash_of(engine):08x}" * 8,
        bundle_sha256="c3" * 32,
        status="ok",
        repetitions=3,
        samples=360,
        latency_ms_median=Interval(value=ms, low=ms * 0.96, high=ms * 1.07),
        latency_ms_p90=ms * 1.15,
        latency_ms_p95=ms * 1.22,
        throughput_ips=1000 / ms,
        peak_rss_mib=240.0 + 40 * ms,
    )
    return made.model_copy(update=changes)


def hash_of(engine: Engine) -> int:
    """A number for an engine, the same in every process."""
    return int.from_bytes(" ".join(engine).encode()[-4:], "big")


def samples(ms: float, seed: int) -> list[list[float]]:
    """Three repetitions of calls with a tail to the right, in microseconds."""
    rng = np.random.default_rng(seed)
    return [[round(float(v), 1) for v in 1000 * ms * (0.94 + rng.gamma(1.3, 0.05, 120))] for _ in range(3)]


def results(experiment: str = "cls/shufflenet_flowers", task: str = "classification", scale: float = 1.0) -> Results:
    """42 rows of one experiment, all ok, with samples, stages, traces and paired accuracy."""
    rows, raw = [], {}
    for batch, boundary, scenario in _GROUPS:
        group = []
        for engine, (own, _) in ENGINES.items():
            ms = (own * scale + _MORE[boundary]) * (batch**0.8) * (4 if scenario == "offline" else 1)
            staged = batch == 1 and boundary == "e2e"
            changes: dict[str, Any] = {"sizes": [(224, 224)] if boundary != "e2e" else [(240, 320), (333, 500)]}
            changes |= {"stages_ms": stages(own * scale)} if staged else {}
            made = row(experiment, engine, ms, batch=batch, boundary=boundary, scenario=scenario, **changes)
            raw[made.key] = samples(ms, seed=len(raw))
            group.append(made)
        rows += with_ratios(group)
    return Results(
        experiment=experiment,
        task=task,
        device="cpu",
        date_utc="2026-11-21T22:00:00+00:00",
        bundle_sha256="c3" * 32,
        data_fingerprint="e5" * 8,
        parity_passed=True,
        environment=environment(),
        matrix=Matrix(),
        rows=rows,
        accuracy=[accuracy(engine, task, lost) for engine, (_, lost) in ENGINES.items()],
        samples_us=raw,
        traces=traces(),
    )


def with_ratios(group: list[Row]) -> list[Row]:
    """The rows of one group, with their ratios to the strongest PyTorch row and to the first."""
    best = min((each for each in group if each.backend.startswith("pytorch")), key=_median)
    return [
        each.model_copy(
            update={
                "strongest": best.key,
                "speedup": None if each is best else _ratio(best, each),
                "speedup_eager": None if each is group[0] else _ratio(group[0], each),
            }
        )
        for each in group
    ]


def _median(each: Row) -> float:
    assert each.latency_ms_median
    return each.latency_ms_median.value


def _ratio(base: Row, each: Row) -> Interval:
    value = _median(base) / _median(each)
    return Interval(value=value, low=value * 0.93, high=value * 1.08)


def stages(compute_ms: float) -> dict[str, float]:
    """Milliseconds of each stage of one image."""
    return {"decode": 1.1, "preprocess": 0.74, "h2d": 0.02, "compute": compute_ms, "d2h": 0.01, "postprocess": 0.21}


def accuracy(engine: Engine, task: str, lost: float) -> Accuracy:
    """Of one engine, compared with the first unless it is that."""
    values = {name: value - lost for name, value in HEADLINES[task].items()}
    head = next(iter(values.values()))
    points = Interval(value=-lost, low=-lost - 0.3, high=-lost + 0.25)
    mcnemar = {"p_value": 0.5, "better": 2, "worse": 4} if task == "classification" else {}
    compared = Comparison.model_validate(
        {"points": points, "method": "paired bootstrap over images, 2000 resamples", **mcnemar}
    )
    return Accuracy(
        backend=engine[0],
        device="cpu",
        precision=engine[1],
        artifact_sha256="a1" * 32,
        images=100,
        values=values,
        interval=Interval(value=head, low=head - 2.4, high=head + 1.9),
        difference=None if engine == ("pytorch", "fp32") else compared,
    )


def traces() -> list[Trace]:
    """Forty cells of ten seconds, the GPU of the last few held back."""
    rng = np.random.default_rng(0)
    return [
        Trace(
            cell=f"cell {n}",
            started_s=1.79e9 + 11 * n,
            sightings=[_sighting(rng, float(s), n) for s in range(0, 10, 2)],
        )
        for n in range(40)
    ]


def _sighting(rng: np.random.Generator, at_s: float, cell: int) -> Sighting:
    middle = 3300 + 90 * float(rng.standard_normal()) - (400 if cell > 30 else 0)
    return Sighting(
        at_s=at_s,
        cpu_mhz=(middle - 400, middle, min(middle + 250, 3700)),
        load=1.6 + 0.4 * float(rng.random()),
        gpu_w=61.0,
        gpu_mhz=1980.0 - (300 if cell > 35 else 0),
        throttle=["SwPowerCap"] if cell > 35 else [],
    )


def three() -> list[Results]:
    """Three experiments of three tasks, 42 rows each."""
    return [
        results(),
        results("seg/cgnet_camvid", "segmentation", scale=5),
        results("det/yolox-nano_coco", "detection", scale=3),
    ]


def broken() -> Results:
    """A row of every status there is."""
    made = results("cls/broken")
    changes: list[dict[str, Any]] = [
        {"status": "invalid", "reason": "warm-up did not settle: 3 windows in a row never agreed within 10%"},
        {"status": "failed", "reason": "the process was killed by SIGKILL"},
        {"status": "unavailable", "reason": "no model.int8.onnx in the bundle"},
        {"status": "pending", "reason": "the run was stopped after 1 of 3 repetitions; the same command goes on"},
    ]
    nothing = {"latency_ms_median": None, "latency_ms_p90": None, "latency_ms_p95": None, "throughput_ips": None}
    nothing |= {"speedup": None, "speedup_eager": None, "samples": 0, "peak_rss_mib": None, "artifact_sha256": ""}
    rows = list(made.rows)
    for n, change in enumerate(changes, start=1):
        lost = {"speedup": None, "speedup_eager": None} if change["status"] == "invalid" else nothing
        rows[n] = rows[n].model_copy(update=lost | change)
    return made.model_copy(update={"rows": rows})


def unavailable() -> Results:
    """An experiment of which nothing could run: no samples, no stages, no traces, no accuracy."""
    made = results("seg/absent", "segmentation")
    gone = [
        Row(
            **each.model_dump(
                include={"experiment", "backend", "device", "precision", "batch", "boundary", "scenario"}
            ),
            artifact_sha256="",
            bundle_sha256=each.bundle_sha256,
            status="unavailable",
            reason="torch sees no CUDA device on this machine",
        )
        for each in made.rows
    ]
    return made.model_copy(update={"rows": gone, "samples_us": {}, "traces": [], "accuracy": [], "parity_passed": None})
