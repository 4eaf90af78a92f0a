"""`python -m train export RUN_OR_CHECKPOINT --to FORMAT [--out FILE]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from crawl.command import console

FORMATS = ("native", "diffusers", "comfyui", "photomaker", "pulid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_CHECKPOINT", help="a run's output folder, or one of its checkpoints")
    parser.add_argument("--to", choices=FORMATS, help="format; default: `export` of the run file")
    parser.add_argument("--out", metavar="FILE", help="default: SOURCE/export/ADAPTER-FORMAT.safetensors")


def run(parsed: argparse.Namespace) -> int:
    """Exit code 0 only when the file was loaded back with the same output. Raises InputError."""
    from diffusers import __version__ as diffusers

    from train.checkpoint import find, load_run
    from train.export.check import check_exportable
    from train.export.write import LIMIT, check_name, default_name, write

    trained = find(parsed.source).meta.run
    format = parsed.to or trained.export
    out = parsed.out or str(Path(parsed.source) / "export" / default_name(trained.adapter.kind, format))
    check_exportable(trained, format)  # before any model loads
    check_name(out, format)
    _, _, adapter, about = load_run(parsed.source)
    written = write(trained, adapter, about, format, out)
    say = console().print
    say(f"{written.path}: {written.weights:,} weights after {about['step']:,} steps")
    if written.taken_for is not None:
        say(f"ComfyUI was not asked, it is no library: by its rules for names and shapes, {written.taken_for}")
    by = {"diffusers": f"diffusers {diffusers}"}.get(format, "Personae")
    say(f"loaded back by {by}: max |difference| of the UNet's output {written.difference:.1e} (limit {LIMIT:.0e})")
    return 0
