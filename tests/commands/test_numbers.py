"""Numbers of every flag of every command: too large, too small, and none."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

import pytest

from mxnet_resnet import __main__ as door
from mxnet_resnet.base.arguments import LARGEST_NUMBER, output
from tests.commands.test_mistakes import at, find_parser, name_case, run, stage  # noqa: F401
from tests.helpers.mistakes import CASES, Case

STRANGE = [
    "1,1,1e308",
    "1,1,1e-320",
    "1e308",
    "-1e308",
    "3.4e38",
    "nan",
    "inf",
    "-inf",
    "1e-400",
    "9" * 30,
    "9" * 5000,
    "-1",
    "0",
    "1.5",
    "",
    " 5",
]
STRANGE += ["²", "0x10", "1_000", "1e", "-0"]
LARGEST = ["2147483647", "1e28", "3.4e38", "0", "1e-30", "1e-320"]
SLOW_TO_END = {"--watch", "--port", "--epochs", "--num-workers", "--num-servers"}


def is_numeric(action: argparse.Action) -> bool:
    return action.type not in (None, Path, output) and action.choices is None


@pytest.mark.parametrize("command", door.list_commands())
@pytest.mark.parametrize("text", STRANGE)
def test_a_number_is_one_that_can_be_computed_with_or_refused(monkeypatch, command, text):
    parser = find_parser(monkeypatch, command)
    for action in filter(is_numeric, parser._actions):
        try:
            value = parser._get_value(action, text)
        except argparse.ArgumentError:
            continue
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, (int, float)):
                assert math.isfinite(number) and abs(number) <= LARGEST_NUMBER, (action.dest, number)
                assert isinstance(number, float) or abs(number) < 2**63, (action.dest, number)


def list_flags() -> list:
    """The first case of each command that works, with each of its numeric flags."""
    found = []
    for command in door.list_commands():
        case = next((case for case in CASES if case.command == command and case.ends == 0), None)
        if case is not None:
            with pytest.MonkeyPatch.context() as patch:
                actions = [one for one in find_parser(patch, command)._actions if is_numeric(one)]
            names = [one.option_strings[-1] for one in actions if one.option_strings]
            found += [pytest.param(case, name, id=f"{command}{name}") for name in names if name not in SLOW_TO_END]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("text", LARGEST)
@pytest.mark.parametrize("case, flag", list_flags())
def test_a_command_works_with_the_largest_number_or_ends_in_a_sentence(capsys, at, case: Case, flag, text):  # noqa: F811
    status, _, err = run(capsys, [*case.line(at), flag, text])
    assert "Traceback" not in err, err
    assert status in (0, 1, 2)
    if status == 2:
        assert len(re.findall("^error: ", err, re.MULTILINE)) == 1, err
