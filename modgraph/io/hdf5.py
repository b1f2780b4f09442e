"""HDF5 files, read by a process of their own: on broken files the HDF5 library may hang or crash.

This file is also the program of that process (it imports nothing of modgraph): it prints a JSON line about attributes
and data sets, then the data.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SECONDS, _BYTES_A_SECOND = 20, 10_000_000  # how long it may take
_MEMORY = 4 << 30  # and what it may have besides four times the file
_RATIO = 1032  # what deflate can shrink at most
_ATTRIBUTES = ("model_config", "weight_names", "name")
_MOST_THINGS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contents:
    """What an HDF5 file holds.

    Attributes
    ----------
    groups : mapping of str to mapping
        Attributes of each group, by its path ("" is the root).
    arrays : mapping of str to ndarray
        Data sets by path.
    """

    groups: dict[str, dict[str, Any]]
    arrays: dict[str, NDArray[Any]]

    def below(self, path: str) -> list[str]:
        """List the names of the groups in a group, in the file's order."""
        start = f"{path}/" if path else ""
        return [name[len(start) :] for name in self.groups if name.startswith(start) and "/" not in name[len(start) :]]


def read_hdf5(source: Path | bytes) -> Contents:
    """Read groups and data sets of real numbers.

    Parameters
    ----------
    source : Path or bytes
        A file, or what is in one.

    Returns
    -------
    Contents

    Raises
    ------
    ValueError
        If the HDF5 library can't read it, doesn't come back, or crashes.
    ImportError
        If h5py is not installed.
    """
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    command = [sys.executable, "-P", __file__, *([str(source)] if isinstance(source, Path) else [])]
    try:
        done = subprocess.run(
            command,
            input=b"" if isinstance(source, Path) else source,
            capture_output=True,
            timeout=_SECONDS + size / _BYTES_A_SECOND,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        raise ValueError("it is broken: the HDF5 library does not come back from it") from None
    if done.returncode == 3:
        raise ImportError("reading Keras files needs h5py: pip install 'modgraph-nn[keras]'")
    if done.returncode == 2:
        raise ValueError(done.stderr.decode("utf-8", "replace").strip()[-500:] or "it is broken")
    if done.returncode != 0:
        raise ValueError("it is broken: the HDF5 library fails on it")
    header, _, data = done.stdout.partition(b"\n")
    document = json.loads(header)
    arrays, at = {}, 0
    for path, dtype, shape in document["arrays"]:
        count = math.prod(shape)
        arrays[path] = np.frombuffer(data, dtype=dtype, count=count, offset=at).reshape(shape)
        at += arrays[path].nbytes
    return Contents(groups=document["groups"], arrays=arrays)


# --- The other process ------------------------------------------------------------------------------------------------


def _walk(group: Any, path: str, groups: dict[str, Any], datasets: list[tuple[str, Any]]) -> None:
    """Collect groups and data sets; links to other places and files are not followed."""
    import h5py

    if len(groups) + len(datasets) > _MOST_THINGS or path.count("/") > 50:
        raise ValueError("the file must hold fewer groups")
    groups[path] = {name: _plain(group.attrs[name]) for name in _ATTRIBUTES if name in group.attrs}
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        below, where = group[name], f"{path}/{name}" if path else name
        if isinstance(below, h5py.Group):
            _walk(below, where, groups, datasets)
        elif isinstance(below, h5py.Dataset) and below.dtype.kind in "biuf":
            if below.is_virtual or below.external or below.shape is None:
                raise ValueError(f"{where!r} must be a plain data set")
            claimed = math.prod(below.shape) * below.dtype.itemsize
            if claimed > _RATIO * below.id.get_storage_size():
                raise ValueError(f"{where!r} must fit the file (it claims shape {below.shape})")
            datasets.append((where, below))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value.tolist()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _child() -> int:
    try:
        import h5py
    except ImportError:
        return 3
    given = sys.argv[1:]
    data = b"" if given else sys.stdin.buffer.read()
    try:
        import resource

        size = Path(given[0]).stat().st_size if given else len(data)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY + 4 * size, _MEMORY + 4 * size))
    except (ImportError, OSError, ValueError):
        pass  # not on this system
    try:
        with h5py.File(given[0] if given else io.BytesIO(data), "r") as file:
            groups: dict[str, Any] = {}
            datasets: list[tuple[str, Any]] = []
            _walk(file, "", groups, datasets)
            listed = [(path, dataset.dtype.newbyteorder("<").str, dataset.shape) for path, dataset in datasets]
            sys.stdout.buffer.write(json.dumps({"groups": groups, "arrays": listed}).encode() + b"\n")
            for _, dataset in datasets:
                array = np.asarray(dataset[()])
                sys.stdout.buffer.write(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
        sys.stdout.buffer.flush()
    except Exception as error:
        message = str(error) if isinstance(error, ValueError | OSError) else type(error).__name__
        sys.stderr.write(" ".join(message.split()))
        return 2
    return 0


if __name__ == "__main__":
    # Not through the interpreter's way out, where the library might fail once more.
    status = _child()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
