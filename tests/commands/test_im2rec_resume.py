"""tools/im2rec.py goes on where it was stopped: by a signal, by a full disk, anywhere."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mxnet_resnet.data.encoder import Encoder
from tests.helpers import REPOSITORY
from tests.helpers.pictures import save, save_classes
from tests.helpers.recordfiles import files_of


@pytest.fixture
def damaged(tmp_path) -> Path:
    """Two classes, in which some images do not decode, and one is a folder."""
    root = save_classes(tmp_path / "photos", cat=40, dog=30)
    for name in ("cat/003", "cat/017", "dog/000", "dog/029"):
        (root / f"{name}.jpg").write_bytes(b"no image")
    (root / "dog/folder.jpg").mkdir()
    return root


def test_an_interrupted_job_goes_on(tmp_path, damaged, im2rec, monkeypatch):
    """Stopped at any image, with the parts cut anywhere as where the machine stopped: the result is the same."""
    flags = [damaged, "--train-ratio", 0.7, "--num-workers", 2]
    im2rec(tmp_path / "undisturbed/x", *flags)
    assert len((tmp_path / "undisturbed/x_bad.txt").read_text().splitlines()) == 5
    read, generator = Encoder.read, random.Random(0)
    for number in range(12):
        folder, done = tmp_path / f"{number}", []
        for _ in range(2):
            left = [generator.randrange(35)]

            def stop(encoder, path, left=left, done=done):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                done.append(path)
                return read(encoder, path)

            monkeypatch.setattr(Encoder, "read", stop)
            assert im2rec(folder / "x", *flags, status=130) == "interrupted\n"
            for part in folder.glob(".*.rec.part") if number % 2 else ():
                os.truncate(part, generator.randrange(part.stat().st_size + 1))
        monkeypatch.setattr(Encoder, "read", read)
        im2rec(folder / "x", *flags)
        assert files_of(folder) == files_of(tmp_path / "undisturbed")


def test_a_finished_list_is_not_read_again(tmp_path, damaged, im2rec, monkeypatch):
    flags = [damaged, "--train-ratio", 0.7, "--num-workers", 1]
    read, calls = Encoder.read, []

    def stop(encoder, path):
        calls.append(path)
        if len(calls) == 60:
            raise KeyboardInterrupt
        return read(encoder, path)

    monkeypatch.setattr(Encoder, "read", stop)
    im2rec(tmp_path / "out/x", *flags, status=130)
    assert (tmp_path / "out/x_train.rec").exists()
    out = im2rec(tmp_path / "out/x", *flags)
    assert len(calls) < 85 and "5 skipped" in out


def test_other_settings_start_again(tmp_path, damaged, im2rec, monkeypatch):
    im2rec(tmp_path / "undisturbed/x", damaged, "--quality", 50)
    read, left = Encoder.read, [30]

    def stop(encoder, path):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(encoder, path)

    monkeypatch.setattr(Encoder, "read", stop)
    im2rec(tmp_path / "out/x", damaged, status=130)
    monkeypatch.setattr(Encoder, "read", read)
    im2rec(tmp_path / "out/x", damaged, "--quality", 50)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_goes_on(tmp_path, im2rec, number):
    root = tmp_path / "photos"
    for seed in range(60):
        save(root / f"{seed % 3}" / f"{seed}.jpg", seed, (700, 900))
    im2rec(tmp_path / "undisturbed/x", root)
    arguments = [sys.executable, "tools/im2rec.py", str(tmp_path / "out/x"), str(root), "--num-workers", "1"]
    process = subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part, deadline = tmp_path / "out/.x.rec.part", time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, err) == (130, "interrupted\n")
    assert not (tmp_path / "out/x.rec").exists()
    im2rec(tmp_path / "out/x", root)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


def test_a_full_disk_is_told_and_the_job_goes_on(tmp_path, im2rec, request):
    root = save_classes(tmp_path / "photos", cat=300)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True)
    if mounting.returncode:
        pytest.skip("no tmpfs can be mounted here")
    request.addfinalizer(lambda: subprocess.run(["umount", str(disk)], check=True))
    arguments = [sys.executable, "tools/im2rec.py", str(disk / "x"), str(root)]
    full = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
    assert full.returncode == 2
    assert full.stderr == f"error: cannot write {disk / 'x.rec'}: {os.strerror(errno.ENOSPC)}; run again to go on\n"
    assert not (disk / "x.rec").exists()
    subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
    im2rec(disk / "x", root)
    im2rec(tmp_path / "undisturbed/x", root)
    assert files_of(disk) == files_of(tmp_path / "undisturbed")
