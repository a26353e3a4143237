import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torchvision

from train.compat.ops import UnsupportedOpError
from train.errors import BackendError

ROOT = Path(__file__).parents[3]

# mmcv-lite as it is, so that the next test's silence means something.
BARE = """
import importlib, warnings
try:
    importlib.import_module("mmcv.ops")
except ModuleNotFoundError as error:
    print(error.name)
with warnings.catch_warnings(record=True) as caught:
    import mmcv.cnn.bricks.transformer
print("MultiScaleDeformableAttention" in str(caught[0].message))
"""

INSTALLED = """
import sys
from train.compat.ops import install
install()
finders = len(sys.meta_path)
install()
assert len(sys.meta_path) == finders
import mmcv.cnn.bricks.transformer, mmcv.ops, mmcv._ext
from mmengine.utils.dl_utils import mmcv_full_available
assert mmcv_full_available()
assert mmcv.cnn.bricks.transformer.MultiScaleDeformableAttention is mmcv.ops.MultiScaleDeformableAttention
"""

COMPILED = """
import sys, types
from train.compat.ops import install
install()
import mmcv
mmcv.__path__.append(sys.argv[1])
import mmcv._ext
print(mmcv._ext.get_compiler_version())
sys.modules["mmcv._ext"] = types.ModuleType("loaded")
install()
import mmcv._ext
print(sys.modules["mmcv._ext"].__name__)
"""


def run(code: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, check=False)


def test_mmcv_lite_alone_has_no_ops() -> None:
    assert run(BARE).stdout.split() == ["mmcv._ext", "True"]


def test_installed_stand_in_is_complete_and_silent() -> None:
    result = run(INSTALLED)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_compiled_extension_wins(tmp_path: Path) -> None:
    """Whether it lies in the installed mmcv or is loaded already."""
    (tmp_path / "_ext.py").write_text("def get_compiler_version():\n    return 'GCC'\n")
    assert run(COMPILED, str(tmp_path)).stdout.split() == ["GCC", "loaded"]


def test_versions_do_not_claim_a_compiler(ops: ModuleType) -> None:
    assert ops.get_compiler_version() == f"not compiled (stand-in on torchvision {torchvision.__version__})"
    assert ops.get_compiling_cuda_version() == "not available"


def test_missing_op_raises_by_name_when_called(ops: ModuleType) -> None:
    with pytest.raises(NotImplementedError, match="'roi_pool_forward'") as caught:
        ops.roi_pool(torch.rand(1, 1, 4, 4), torch.zeros(1, 5), 2)
    assert isinstance(caught.value, UnsupportedOpError)
    assert caught.value.exit_code == BackendError.exit_code
    assert "\n" not in str(caught.value)


def test_only_op_names_are_answered(ops: ModuleType) -> None:
    import mmcv._ext

    assert hasattr(mmcv._ext, "carafe_forward")
    assert not hasattr(mmcv._ext, "__path__")
    assert not hasattr(mmcv._ext, "_private")
