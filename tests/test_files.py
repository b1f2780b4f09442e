"""Files are written as a whole or not at all; links, devices and pipes stay what they are."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from modgraph.files import check_regular_file, replacing, write_whole


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert list((tmp_path / "folder").iterdir()) == [real]


def test_a_link_to_nothing_makes_its_file(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_whole(tmp_path / "link.json", "new")
    assert (tmp_path / "real.json").read_text() == "new"


def test_devices_are_written_into() -> None:
    write_whole("/dev/null", "nobody reads this")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_pipes_are_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_whole(tmp_path / "pipe", "all of it")
    reader.join()
    assert read == [b"all of it"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_whole("/dev/full", "x" * 100_000)


def test_errors_name_the_target_and_never_the_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "no" / "net.json", "x")
    assert caught.value.filename == str(tmp_path / "no" / "net.json")
    assert ".part-" not in str(caught.value)
    with pytest.raises(OSError, match="Not enough free space"), replacing(tmp_path / "net.npz") as part:
        raise OSError(f"Not enough free space to write to {part.name}")  # as NumPy says it, without a number
    with pytest.raises(IsADirectoryError) as other:
        write_whole(tmp_path, "x")
    assert other.value.filename == str(tmp_path)
    with pytest.raises(FileNotFoundError) as elsewhere, replacing(tmp_path / "net.npz"):
        (tmp_path / "another.npz").read_bytes()
    assert elsewhere.value.filename == str(tmp_path / "another.npz")
    assert list(tmp_path.iterdir()) == []


def test_on_error_the_file_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text("old")
    with pytest.raises(TypeError), replacing(tmp_path / "net.json") as part:
        part.write_text(3)  # type: ignore[arg-type]
    assert (tmp_path / "net.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "net.json"]


def test_who_may_read_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text("old")
    (tmp_path / "net.json").chmod(0o600)
    write_whole(tmp_path / "net.json", "new")
    assert stat.S_IMODE((tmp_path / "net.json").stat().st_mode) == 0o600


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(ValueError, match="must be a regular file, not a pipe or a device"):
            check_regular_file(tmp_path / name)
    (tmp_path / "file").write_text("")
    check_regular_file(tmp_path / "file")
