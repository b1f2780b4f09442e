"""Read the ONNX networks that well-known packages bring: each opens, or a part of it does, or the error says why not.

Looks for magika, silero-vad, rapidocr and openwakeword where Python finds packages, and in folders that are given (an
unpacked wheel). Packages that are not there are named and left out.

Usage: python -m tests.long.package_models [FOLDER ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from modgraph.io import list_blocks, load_network

PACKAGES = ("magika", "silero_vad", "rapidocr", "rapidocr_onnxruntime", "openwakeword")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    options = parser.parse_args()
    whole = part = named = 0
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        installed = [Path(place) for place in (spec.submodule_search_locations or ()) if spec] if spec else []
        given = [folder / package for folder in options.folders]
        files = sorted(file for folder in (*installed, *given) for file in folder.rglob("*.onnx"))
        if not files:
            print(f"{package}: not there, or without ONNX files")
        for file in files:
            try:
                said = repr(load_network(file))
                whole += 1
            except ValueError as error:
                blocks = list_blocks(file)
                part += bool(blocks)
                named += not blocks
                said = f"{len(blocks)} parts, such as {next(iter(blocks), '')}; " if blocks else ""
                said += str(error).partition("): ")[2]
            print(f"{package} {file.name}: {said:.200}")
    print(f"{whole} files open, of {part} parts do, for {named} the error names the first operation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
