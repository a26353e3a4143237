"""The repository keeps its own rules: hashed wheels, no index host, documented verbs, small files."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def unhashed(text: str) -> list[str]:
    """Requirements without a hash: logical lines, continuations joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if re.match(r"^[A-Za-z0-9]", line) and "--hash=sha256:" not in line]


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_and_hashed(path: Path) -> None:
    text = path.read_text()
    assert "==" in text
    assert not unhashed(text)


def test_control_a_missing_hash_is_seen() -> None:
    assert unhashed("numpy==2.0 \\\n    --hash=sha256:00\ntorch==2.11.0\n") == ["torch==2.11.0"]


def pins(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+==[^ ]+)", (ROOT / "requirements" / name).read_text(), re.M))


def test_all_sets_agree_on_versions() -> None:
    """What is tested (dev) is what the images install (train, deploy, native, gpu)."""
    assert pins("train.txt") <= pins("deploy.txt") <= pins("dev.txt")
    like_gpu = pins("native.txt") | pins("native-cuda.txt") | pins("gpu.txt")
    assert {pin.replace("-gpu", "") for pin in like_gpu} <= pins("dev.txt")


def test_no_package_index_is_named() -> None:
    host = re.compile(r"pypi\.|pythonhosted|--index-url|--extra-index", re.I)
    named = [str(path) for path in tracked() if path != Path(__file__) and host.search(path.read_text(errors="ignore"))]
    assert not named


def test_make_help_names_every_verb() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z%-]*):", text, re.M))
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    missing = {target for target in targets if f"make {target} " not in shown}
    assert not missing
    for variable in ("EXP", "CONFIG", "DATA", "LOAD_FROM", "CHECKPOINT", "SHAPE", "DEVICE", "OPTIONS"):
        assert f"{variable}=" in shown


def commands(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What make would run."""
    return subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["train", "export"])
def test_a_task_without_a_demo_asks_for_an_experiment(verb: str, tmp_path: Path) -> None:
    assert "seg/pspnet-r18_digits" in commands(f"{verb}-seg").stdout
    assert "det/rtmdet-tiny_digits" in commands(f"{verb}-det").stdout
    assert "pose/mine" in commands(f"{verb}-pose", "EXP=pose/mine").stdout
    (tmp_path / "cls" / "newest" / "bundle").mkdir(parents=True)
    asked = commands(f"{verb}-pose", f"WORK={tmp_path}")
    assert asked.returncode == 2
    assert f"make {verb}-pose has no experiment of its own: name one with EXP=" in asked.stderr
    assert "cls/newest" in commands("bench", f"WORK={tmp_path}").stdout


def test_every_make_command_in_the_docs_exists() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z%-]*):", text, re.M))
    patterns = [re.compile(re.escape(target).replace("%", "[a-z_0-9]+") + "$") for target in targets]
    used = set()
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        used |= set(re.findall(r"(?:^|`|\$ )make ([a-z][a-z0-9_-]+)", document.read_text(), re.M))
    assert "demo" in used
    assert "test" in used
    assert not {verb for verb in used if not any(pattern.match(verb) for pattern in patterns)}


def test_no_data_and_no_weights_are_tracked() -> None:
    """Data sets are prepared or downloaded, checkpoints trained: none of them is part of the project."""
    kinds = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pth", ".onnx", ".npz", ".zip", ".tgz")
    assert not [str(path) for path in tracked() if path.suffix.lower() in kinds and "docs" not in path.parts]


def test_files_stay_readable() -> None:
    long = {
        str(path): count for path in tracked() if path.suffix == ".py" and (count := path.read_text().count("\n")) > 400
    }
    assert not long
