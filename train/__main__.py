"""`python -m train CONFIG.yaml [key=value …]`, `--list`, and `generate`, `export`, `bench` with options of their own.

Each command loads only what it needs.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from rich.table import Table

from crawl.command import add_config_arguments, console
from crawl.errors import exit_with_one_line
from train.registry import experiments, load

COMMANDS = {
    "generate": ("train.generate", "a prompt and reference photos in, images out"),
    "evaluate": ("train.evaluate.command", "metrics of what runs make, side by side, with pictures"),
    "compare": ("train.evaluate.compare", "train several run files on the same shards, and evaluate them"),
    "export": ("train.export", "trained weights in a published format"),
    "bench": ("train.bench", "samples/s, MFU and memory of the training step"),
}
"""Name → module with `add_arguments(parser)` and `run(parsed) -> int`, and what it does."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 only on full success, or when SIGTERM was answered with a checkpoint; 3 for a loss not finite."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in COMMANDS:
        return _command(words[0], words[1:])
    parser = _parser()
    parsed = parser.parse_args(words)
    if parsed.list:
        return _list()
    if parsed.config is None:
        parser.error("name a run file: python -m train CONFIG.yaml (see --list)")
    run = load(parsed.config, parsed.overrides)
    from train.run import train

    return train(run)


def _parser() -> argparse.ArgumentParser:
    also = "\n".join(f"  python -m train {name:<9} {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train an identity adapter on a dataset; the same command goes on where it stopped.",
        epilog=f"also:\n{also}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser, optional=True, page="docs/training-configuration.md", example="optim.lr=3e-5")
    parser.add_argument("--list", action="store_true", help="every run file that comes with the repository")
    return parser


def _command(name: str, words: list[str]) -> int:
    module, what = COMMANDS[name]
    command = importlib.import_module(module)
    parser = argparse.ArgumentParser(prog=f"python -m train {name}", description=f"{what.capitalize()}.")
    command.add_arguments(parser)
    return int(command.run(parser.parse_intermixed_args(words)))  # options may stand between runs and key=value


def _list() -> int:
    table = Table("run file", "what it is")
    for experiment in experiments():
        table.add_row(f"configs/train/{experiment.name}.yaml", experiment.about)
    console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main))
