"""`python -m train evaluate`: pictures of people by every run, measured; tables, files and a page."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from crawl.command import console
from crawl.config import apply, read, validated
from crawl.errors import InputError
from crawl.output import Output
from train.evaluate.evaluation import evaluate
from train.evaluate.meters import licence_lines
from train.evaluate.methods import methods
from train.evaluate.page import PAGE, tables, write_page
from train.evaluate.results import ROWS, SCORES, Results, write
from train.evaluate.settings import EvaluateSettings

CONFIGS = "configs/evaluate/*.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="a run's output folder, a checkpoint or an exported file; or key=value"
    )
    parser.add_argument("--data", metavar="DATASET", help="whose people; default: the first run's own dataset")
    parser.add_argument("--out-of-domain", metavar="FOLDER", help="FOLDER/PERSON/*.jpg: people of no dataset")
    parser.add_argument("--output", metavar="FOLDER", default="out/evaluation", help="default: %(default)s")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE.yaml", help=f"settings ({CONFIGS}); default: small random networks")


def run(parsed: argparse.Namespace) -> int:
    """Raises InputError."""
    sources = [word for word in parsed.runs if not is_override(word)]
    settings = load_settings(parsed.config, [word for word in parsed.runs if is_override(word)])
    if not sources:
        raise InputError("name a run: python -m train evaluate RUN [RUN …] (see --help)")
    compared = methods(sources)
    evaluated(sources, parsed.data or compared[0].run.data.dataset, parsed.out_of_domain, parsed.output, settings)
    return 0


def evaluated(sources: list[str], dataset: str, folder: str | None, where: str, settings: EvaluateSettings) -> Results:
    """Everything, written down and shown. Raises InputError."""
    say, began = console().print, time.monotonic()
    for line in licence_lines(settings):
        say(line)
    output = Output(where)
    results, made = evaluate(methods(sources), dataset, folder, output, settings)
    write(output, results)
    write_page(output, results)
    for table in shown(results):
        say(table)
    for group in results.sets:
        if group.note:
            say(f"{group.name}: {group.note}")
    pictures = len({row.picture for row in results.rows if row.picture})
    say(f"{pictures} pictures measured, {made} made now, in {time.monotonic() - began:.0f} s")
    for name in (PAGE, SCORES, ROWS):
        say(f"{output.path(name)}")
    return results


def load_settings(path: str | None, overrides: list[str]) -> EvaluateSettings:
    """Raises InputError naming file and field."""
    document: dict[str, Any] = {} if path is None else read(path, [], EvaluateSettings.model_fields)
    for override in overrides:
        apply(document, override)
    return validated(EvaluateSettings, document, path or "settings")


def is_override(word: str) -> bool:
    """`key=value`, and no file of that name."""
    return "=" in word and not Path(word).exists()


def shown(results: Results) -> list[Table]:
    """One table a set, family and model, as on the page."""
    found = []
    for group in results.sets:
        for table in tables(results, group.name):
            drawn = Table(title=f"{group.name} · {table.title} · by {table.model}", title_justify="left")
            drawn.add_column("run")
            for column in table.columns:
                drawn.add_column(column.title, justify="right")
            for name, cells in table.rows:
                drawn.add_row(name, *("–" if cell is None else cell.text for cell in cells))
            drawn.add_section()
            for name, cells in table.levels:
                drawn.add_row(f"({name})", *("–" if cell is None else cell.text for cell in cells))
            found.append(drawn)
    return found
