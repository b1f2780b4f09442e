"""HDF5 files, read by a process of their own, because on broken files the HDF5 library may hang or crash.

This file is also the program of that process (it imports nothing of modgraph): it copies attributes and data sets to a
``.npz`` file.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SECONDS = 8  # how long reading may take,
_BYTES_A_SECOND = 10_000_000  # and a second more for each of these many bytes
_MEMORY = 1 << 30  # bytes of address space, besides four times the file and twice the data sets
_ATTRIBUTES = ("model_config", "weight_names", "name")
_MOST_THINGS = 100_000  # groups and data sets


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contents:
    """What an HDF5 file holds: the attributes of each group and the data sets, by path ("" is the root)."""

    groups: dict[str, dict[str, Any]]
    arrays: dict[str, NDArray[Any]]


def read_hdf5(source: Path | bytes, *, most_bytes: int) -> Contents:
    """Read groups and data sets of real numbers from a file, or from what is in one.

    The data sets may take `most_bytes` together. A file that the HDF5 library can't read, hangs on or crashes on is a
    ValueError.
    """
    with tempfile.TemporaryDirectory(prefix="modgraph-") as folder:
        file, copy = Path(folder) / "file.h5", Path(folder) / "copy.npz"
        if isinstance(source, Path):
            file = source
        else:
            file.write_bytes(source)
        places = os.pathsep.join(filter(None, sys.path))
        try:
            done = subprocess.run(
                [sys.executable, "-P", __file__, str(most_bytes), str(copy), str(file)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS + file.stat().st_size / _BYTES_A_SECOND,
                check=False,
                # Each thread of OpenBLAS takes address space.
                env={**os.environ, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            raise ValueError("it is broken: the HDF5 library does not come back from it") from None
        if done.returncode == 2:
            raise ValueError(done.stderr.decode("utf-8", "replace").strip()[-500:] or "it is broken")
        if done.returncode != 0 or copy.stat().st_size > most_bytes + (1 << 26):
            raise ValueError("it is broken: the HDF5 library fails on it")
        with np.load(copy, allow_pickle=False) as copied:
            document = json.loads(bytes(copied["document"]))
            arrays = {path: copied[f"array{at}"] for at, path in enumerate(document["paths"])}
    return Contents(groups=document["groups"], arrays=arrays)


# --- The other process ------------------------------------------------------------------------------------------------


def _copy(most_bytes: int, target: str, source: str) -> None:
    """Collect groups and data sets; links to other places and files are not followed."""
    import h5py

    with contextlib.suppress(ImportError, OSError, ValueError):  # not on this system
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
        wanted = _MEMORY + 4 * Path(source).stat().st_size + 2 * most_bytes
        resource.setrlimit(resource.RLIMIT_AS, (min(wanted, *limits, 1 << 62), hard))
    groups: dict[str, dict[str, Any]] = {}
    datasets: dict[str, Any] = {}

    def visit(path: str, thing: Any) -> None:
        if len(groups) + len(datasets) > _MOST_THINGS:
            raise ValueError("the file must hold fewer groups")
        if isinstance(thing, h5py.Group):
            groups[path] = {name: _plain(thing.attrs[name]) for name in _ATTRIBUTES if name in thing.attrs}
        elif isinstance(thing, h5py.Dataset) and thing.dtype.kind in "biuf":
            if thing.is_virtual or thing.external or thing.shape is None:
                raise ValueError(f"{path!r} must be a plain data set")
            datasets[path] = thing

    with h5py.File(source, "r") as file:
        visit("", file)
        file.visititems(visit)
        claimed = sum(one.size * one.dtype.itemsize for one in datasets.values())
        if claimed > most_bytes:
            raise ValueError(f"the data sets must fit a file of this size (they claim {claimed} bytes)")
        document = np.frombuffer(json.dumps({"groups": groups, "paths": list(datasets)}).encode(), dtype=np.uint8)
        arrays = {f"array{at}": np.asarray(one[()]) for at, one in enumerate(datasets.values())}
        np.savez(target, document=document, **arrays)  # type: ignore[arg-type]  # NumPy's stub knows no keywords


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value.tolist()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    status = 0
    try:
        _copy(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    except Exception as error:
        message = str(error) if isinstance(error, ValueError | OSError) else type(error).__name__
        sys.stderr.write(" ".join(message.split()))
        status = 2
    sys.stderr.flush()
    os._exit(status)  # not through the interpreter's way out, where the library might fail once more
