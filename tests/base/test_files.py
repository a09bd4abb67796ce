"""Whether a file can be written, asked before work goes into it."""

import os
from pathlib import Path

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import check_writable, locked, replacing


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    check_writable(tmp_path / "new/folder/file")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("as before")
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "as before"
    monkeypatch.chdir(tmp_path)
    check_writable(Path("file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "place, reason",
    [
        ("folder", "it is a folder"),
        ("file/below", "Not a directory"),
        ("file/deep/below", "Not a directory"),
        ("/", "it is a folder"),
        ("x" * 300 + "/file", "File name too long"),
    ],
)
def test_a_place_that_cannot_is_told_in_one_sentence(tmp_path, place, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = tmp_path / place
    with pytest.raises(UserError) as told:
        check_writable(path)
    assert str(told.value) == f"cannot write {path}: {reason}"
    with pytest.raises(UserError) as told:
        check_writable(path, "the log")
    assert str(told.value) == f"cannot write the log: {reason}"
    with pytest.raises(UserError, match=reason), replacing(path):
        pytest.fail("nothing may be computed for it")


def test_a_file_system_that_takes_no_files_is_told():
    with pytest.raises(
        UserError, match=r"^cannot write /proc/none/file: (No such file or directory|Permission denied)$"
    ):
        check_writable(Path("/proc/none/file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_others_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"^cannot write \S+: Permission denied$"):
        check_writable(tmp_path / "file")


def test_a_lock_that_another_user_made_stays(tmp_path, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    with locked(tmp_path / "run-lock"):
        pass
    assert (tmp_path / "run-lock").exists()
