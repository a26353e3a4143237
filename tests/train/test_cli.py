"""The command line's habits."""

import errno
import json

import pytest

from train import cli, errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError, 2),
        (errors.InputError, 3),
        (errors.BackendError, 4),
        (errors.VerificationError, 5),
        (errors.MeasurementError, 6),
    ],
)
def test_an_error_for_the_user_is_one_line_and_a_code(
    error: type[errors.SlipwayError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: object) -> int:
        raise error("what was found; what to do")

    assert cli.run(main) == code
    assert capsys.readouterr().err == "error: what was found; what to do\n"


def test_a_disk_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "work/x")

    assert cli.run(main) == 3
    assert capsys.readouterr().err.startswith("error: work/x: No space left on device;")


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    def main(argv: object) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(main)


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: object) -> int:
        raise KeyboardInterrupt

    assert cli.run(main) == 130
    assert "go on" in capsys.readouterr().err


def test_finish_puts_json_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    cli.finish({"a": 1}, as_json=True, lines=["wrote x"], next_command="make y")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert captured.err.splitlines() == ["wrote x", "next: make y"]


def test_nearest_suggests() -> None:
    assert "did you mean 'digits'?" in str(cli.nearest("digit", ["digits", "flowers"], "source"))
    assert "did you mean" not in str(cli.nearest("xyz", ["digits"], "source"))
