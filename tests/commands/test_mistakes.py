"""The commonest mistakes at every command: what is read is not there, not to be read, no file, or none that it is."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mxnet_resnet import __main__ as door
from mxnet_resnet.base import errors
from mxnet_resnet.base.arguments import Parser, output
from tests.helpers import REPOSITORY, archives, mistakes, pictures, recordfiles, runs
from tests.helpers.mistakes import CASES, FAULTS, NO_FILES, NOBODY, READ_NOTHING, Case

SECONDS, MEMORY = 60, 2 << 30  # that a command may take
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits, pipes and users as on Linux")


@pytest.fixture(scope="module")
def stage(digits, tmp_path_factory) -> Path:
    """Sound files of every kind that a command reads."""
    folder = tmp_path_factory.mktemp("stage")
    shades = [pictures.png(pictures.photograph(32, 32, seed)) for seed in range(60)]
    for name in "ab":
        recordfiles.written(folder / name, shades, [float(number % 10) for number in range(60)])
    runs.train(runs.train_arguments(
        digits, folder, "--epochs", "1", "--batch-size", "30", "--data-train", f"{folder}/a.rec", "--data-val",
        f"{folder}/b.rec", "--frequent", "5",
    ))  # fmt: skip
    for path in (folder / "model").iterdir():
        path.rename(folder / path.name)
    for name in ("train.log", "metrics.jsonl"):
        shutil.copy(folder / "log/net" / name, folder / name)
    shutil.rmtree(folder / "log")
    (folder / "image.png").write_bytes(pictures.png(pictures.photograph(40, 56)))
    pictures.save_classes(folder / "images", a=3, b=3)
    (folder / "images.lst").write_text("0\t1\timage.png\n1\t2\timages/a/000.jpg\n")
    (folder / "x.lst").write_text("0\t0\ta/000.jpg\n1\t1\tb/000.jpg\n")
    (folder / "names.txt").write_text("".join(f"digit {number}\n" for number in range(10)))
    (folder / "classes.txt").write_text("a\nb\n")
    archives.write_tars(folder)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in archives.val_labels()))
    (folder / "hosts").write_text("\n" * 20 + "127.0.0.1\n")  # half of it names no host
    (folder / "recipe.yaml").write_text("lr: 0.1\nwd: 0.0001\n")
    for name in ("net.pth", "net.safetensors"):
        (folder / name).write_bytes(b'PK\3\4    {"')
    return folder


@pytest.fixture
def at(stage):
    """A copy of the files, in a folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield mistakes.copy(stage, Path(folder, "at"))
        for path in Path(folder).rglob("*"):
            if path.is_dir():
                path.chmod(0o777)


@contextmanager
def bounded():
    """Within it a command is ended that takes too long, and refused memory beyond a bound."""
    taken = int(re.search(r"VmData:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def end(*_):
        raise AssertionError("it waits")

    handler = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (taken + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def unprivileged():
    """Within it this process is a user for whom permissions count."""
    if os.geteuid():
        yield
        return
    if not all(folder.stat().st_mode & 0o001 for folder in (REPOSITORY, *REPOSITORY.parents)):
        pytest.skip("only root may enter the folder of this repository")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def run(capsys, line: list[str], *contexts) -> tuple[int, str, str]:
    """Run a command in this process: (status, standard output, standard error)."""
    before, streams = sys.argv, (sys.stdout, sys.stderr)
    sys.argv = ["mxnet-resnet", *line]
    try:
        with pytest.raises(SystemExit) as ended, ExitStack() as stack:
            for context in (bounded(), *contexts):
                stack.enter_context(context)
            errors.run(door.main)
    finally:
        sys.argv = before
        sys.stdout, sys.stderr = streams
    return (ended.value.code, *capsys.readouterr())


def name_case(case: Case) -> str:
    return f"{CASES.index(case)}-{case.command}"


def list_mistakes() -> list:
    """Every file of every case with every fault; by turns one fault a file is of the quick ones."""
    found = []
    pairs = [(case, name) for case in CASES for name in case.reads]
    for number, (case, name) in enumerate(pairs):
        for place, fault in enumerate(FAULTS):
            slow = [pytest.mark.slow] if place != number % len(FAULTS) else []
            found.append(pytest.param(case, name, fault, marks=slow, id=f"{name_case(case)}-{name}-{fault}"))
    return found


@pytest.mark.parametrize("case", [case for case in CASES if case.ends is not None], ids=name_case)
@pytest.mark.slow
def test_the_commands_work_with_sound_files(capsys, at, case):
    status, _, err = run(capsys, case.line(at), unprivileged())
    assert status == case.ends, err


@pytest.mark.parametrize("case, name, fault", list_mistakes())
def test_a_mistake_is_told_in_a_sentence(capsys, at, case, name, fault):
    FAULTS[fault](at / name)
    closed = fault in ("unreadable", "in-a-closed-folder")
    status, _, err = run(capsys, case.line(at), *([unprivileged()] if closed else []))
    assert "Traceback" not in err
    if (name, fault) in case.bears or (fault == "cut" and status != 2):  # half a list may be a list
        assert status in (0, 1), err
        return
    assert status == 2, err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1, err
    assert err.splitlines()[-1].startswith("error: ")
    begun = [path.name for path in (at / "out").rglob("*") if path.is_file() and not path.name.endswith(".index.npz")]
    assert begun == []
    if closed:
        assert "ermission denied" in err, err


def find_parser(monkeypatch, command: str) -> Parser:
    """The parser of a command."""

    class Parsed(Exception):
        pass

    def give(parser, *_):
        raise Parsed(parser)

    with monkeypatch.context() as patch:
        for method in ("parse_args", "parse_known_args"):
            patch.setattr(Parser, method, give)
        patch.setattr(sys, "argv", ["mxnet-resnet", command, "-n", "1", "true"])
        with pytest.raises(Parsed) as parsed:
            door.main()
    return parsed.value.args[0]


def find_flags(monkeypatch, command: str) -> set[str]:
    """The flags of a command that may name a file."""
    actions = find_parser(monkeypatch, command)._actions
    texts = [one for one in actions if one.type in (None, Path, output) and one.choices is None and one.nargs != 0]
    return {one.option_strings[-1] if one.option_strings else one.dest for one in texts}


@pytest.mark.parametrize("command", door.list_commands())
def test_every_flag_that_names_a_file_has_a_case(monkeypatch, command):
    flags = find_flags(monkeypatch, command)
    covered = {flag for case in CASES if case.command == command for flag in case.flags}
    assert covered <= flags
    assert flags - covered <= NO_FILES
    assert bool(covered) != (command in READ_NOTHING)
