from __future__ import annotations

import warnings

import pytest

from agents.cli import KNOWN_WARNINGS, run


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("beginning", KNOWN_WARNINGS)
def test_a_warning_that_nobody_can_act_on_is_not_shown(beginning: str) -> None:
    def main() -> None:
        warnings.warn(f"{beginning} and more", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as seen:
        assert run(main, ()) == 0
    assert seen == []


@pytest.mark.filterwarnings("always")
def test_any_other_warning_is_shown() -> None:
    def main() -> None:
        warnings.warn("the disk is nearly full", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as seen:
        run(main, ())
    assert [str(one.message) for one in seen] == ["the disk is nearly full"]


def test_ctrl_c_is_one_line_and_the_exit_code_of_shells(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    assert run(main, ()) == 130
    assert capsys.readouterr().err == "interrupted: what was saved before stays\n"
