"""`python -m train compare`: several run files trained on the same shards with the same budget, then evaluated.

A run that is finished already is not trained again. Ends in one table and one picture. Knows no method by name.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.measure import Measurement
from rich.table import Table

from crawl.command import console
from crawl.errors import InputError
from crawl.output import Output
from train.config import TrainRun
from train.evaluate.command import add_settings, evaluated, is_override, load_settings
from train.evaluate.meters import photo
from train.evaluate.pictures import Pictures
from train.evaluate.prompts import prompts_of
from train.evaluate.results import Results
from train.evaluate.rows import TINY
from train.evaluate.scores import Score
from train.evaluate.shots import Shot
from train.grids import TILE_PX, fitted
from train.log import read_metrics
from train.registry import load, on_tiny
from train.run import train

TABLE, GRID = "comparison.json", "comparison.png"
_SAME = ("base", "loss", "loop.steps", "loop.batch_size", "loop.seed", "loop.train_unet", "data")
"""What the compared runs must agree on."""
_FREE = frozenset({"data.drop", "data.features", "data.on_bad_shard", "data.prefetch", "data.masked_loss"})
_TINY = {"batch_size": 8, "train_unet": True, "fit_vae_steps": 100, "gauge_samples": 16}
_SHOWN = (
    "face_sim_reference", "face_sim_reference_or_zero", "face_sim_held_out", "no_face", "clip_t_clean", "clip_i_plain",
    "clip_i_photo", "kid", "face_div",
)  # fmt: skip
_WIDEST_WORD, _MOST_WIDTH = len("reference"), 10_000
_GAP_PX, _LABEL_PX, _HEAD_PX, _MOST_ROWS = 6, 12, 34, 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", metavar="RUN.yaml", nargs="+", help="run files; or key=value for all of them")
    parser.add_argument("--data", metavar="DATASET", help="train all of them on this one")
    parser.add_argument("--steps", type=int, help="optimiser steps of each")
    parser.add_argument("--tiny", action="store_true", help="on the tiny base, from scratch, 32 px: for a CPU")
    parser.add_argument("--output", metavar="FOLDER", default="out/comparison", help="default: %(default)s")
    parser.add_argument("--out-of-domain", metavar="FOLDER", help="FOLDER/PERSON/*.jpg: people of no dataset")
    parser.add_argument(
        "--evaluate", metavar="key=value", nargs="+", default=[], help="settings of the evaluation, as for evaluate"
    )
    add_settings(parser)


def run(parsed: argparse.Namespace) -> int:
    """Raises InputError; the exit code of a run that did not end well."""
    overrides = [word for word in parsed.configs if is_override(word)]
    configs = [word for word in parsed.configs if not is_override(word)]
    settings = load_settings(parsed.config, parsed.evaluate)
    runs = same_budget([one for path in configs for one in [prepared(parsed, path, overrides)]])
    for place, one in enumerate(runs):
        console().print(f"[{place + 1}/{len(runs)}] {one.output}", markup=False)
        if code := train(one):
            return code
    sources = [one.output for one in runs]
    results = evaluated(sources, runs[0].data.dataset, parsed.out_of_domain, parsed.output, settings)
    lines = [compared(one, results) for one in runs]
    output = Output(parsed.output)
    output.write(TABLE, f"{json.dumps(lines, indent=1, allow_nan=False)}\n".encode())
    output.write(GRID, grid(output, results))
    show(table(lines))
    for name in (TABLE, GRID):
        console().print(output.path(name))
    return 0


def show(drawn: Table) -> None:
    """At full width: on a narrow terminal a line that wraps is better than numbers that are not there."""
    screen = console()
    needed = Measurement.get(screen, screen.options.update(width=_MOST_WIDTH), drawn).minimum
    screen.print(drawn, width=max(screen.width, needed), crop=False)


def prepared(parsed: argparse.Namespace, path: str, overrides: Sequence[str]) -> TrainRun:
    """A run file with what is the same for all of them. Raises InputError."""
    given = [*overrides, f"output={Path(parsed.output) / 'runs' / Path(path).stem}"]
    if parsed.data is not None:
        given.append(f"data.dataset={parsed.data}")
    if parsed.steps is not None:
        given.append(f"loop.steps={parsed.steps}")
    one = load(path, given)
    if not parsed.tiny:
        return one
    loop = {**_TINY, "steps": one.loop.steps, "log_every": max(1, one.loop.steps // 10), "gauges_every": one.loop.steps}
    tiny = on_tiny(one)
    return tiny.model_copy(update={"loop": tiny.loop.model_copy(update={**loop, "save_every": one.loop.steps})})


def same_budget(runs: Sequence[TrainRun]) -> Sequence[TrainRun]:
    """Raises InputError naming the field that differs, or two of one name."""
    if not runs:
        raise InputError("name a run file: python -m train compare RUN.yaml … (see --help)")
    outputs = [one.output for one in runs]
    for output in outputs:
        if outputs.count(output) > 1:
            raise InputError(f"{Path(output).name}: two run files of this name cannot be compared")
    first = dict(_budget(runs[0]))
    for one in runs[1:]:
        for field, value in _budget(one):
            if value != first[field]:
                raise InputError(
                    f"{field}: {value} in {Path(one.output).name}, {first[field]} in {Path(outputs[0]).name}: a "
                    f"comparison needs the same: say it for all, for example {field}={first[field]}"
                )
    return runs


def _budget(run: TrainRun) -> Iterator[tuple[str, Any]]:
    document = run.model_dump(mode="json")
    for field in _SAME:
        section, _, key = field.partition(".")
        whole = document[section]
        for name, value in ({key: whole[key]} if key else whole).items():
            if f"{section}.{name}" not in _FREE:
                yield f"{section}.{name}", value


def compared(run: TrainRun, results: Results) -> dict[str, Any]:
    """A line of the table: the last gauges of the training, and scores by set, metric and model."""
    name = Path(run.output).name
    gauges = [line for line in read_metrics(Path(run.output)) if "gauge/loss" in line]
    keys = ("swap_gap", "swap_gap_low", "swap_gap_high", "loss", "collapse")
    last = {key: gauges[-1].get(f"gauge/{key}") if gauges else None for key in keys}
    scores = [score for score in results.scores if score.method == name and score.metric.replace(TINY, "") in _SHOWN]
    return {"run": name, "steps": run.loop.steps, **last, "scores": [_score(score) for score in scores]}


def _score(score: Score) -> dict[str, Any]:
    keys = ("set_name", "metric", "model", "mean", "low", "high", "images", "people")
    return {key: getattr(score, key) for key in keys}


def table(lines: Sequence[dict[str, Any]]) -> Table:
    """A row a run: the swap gap with its interval, then every score, a column a set, metric and model."""
    columns = dict.fromkeys((s["set_name"], s["metric"], s["model"]) for line in lines for s in line["scores"])
    models = {model: [name for _, name, by in columns if by == model] for _, _, model in columns}
    told = (f"{', '.join(dict.fromkeys(names))}: by {model}" for model, names in models.items())
    drawn = Table(caption="; ".join(told))
    for title in ("run", "swap gap", "95 % interval"):
        drawn.add_column(title, no_wrap=True)
    sets = {set_name for set_name, _, _ in columns}
    for set_name, metric, _ in columns:
        words = [set_name] * (len(sets) > 1) + [metric.replace("_", " ")]
        drawn.add_column("\n".join(words), justify="right", min_width=_WIDEST_WORD)
    for line in lines:
        means = {(s["set_name"], s["metric"], s["model"]): f"{s['mean']:.3f}" for s in line["scores"]}
        gap = "–" if line["swap_gap"] is None else f"{line['swap_gap']:.4f}"
        ends = "–" if line["swap_gap_low"] is None else f"{line['swap_gap_low']:+.4f} … {line['swap_gap_high']:+.4f}"
        drawn.add_row(line["run"], gap, ends, *(means.get(column, "–") for column in columns))
    return drawn


def grid(output: Output, results: Results) -> bytes:
    """A row a person and prompt, a column a run, the reference before them; people in turn, at most twelve rows."""
    pictures, prompts = Pictures(output, results.settings), prompts_of(results.settings)
    people = [(group.name, person) for group in results.sets for person in group.people]
    wanted = [(*people[i % len(people)], prompts[i // len(people)]) for i in range(len(people) * len(prompts))]
    wanted, step = wanted[:_MOST_ROWS], TILE_PX + _GAP_PX
    size = ((1 + len(results.methods)) * step + _GAP_PX, _HEAD_PX + len(wanted) * step)
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_LABEL_PX)
    for column, name in enumerate(["reference", *(method.name for method in results.methods)]):
        pen.text((_GAP_PX + column * step, _GAP_PX), _within(pen, font, name), "grey", font)
    for row, (set_name, person, prompt) in enumerate(wanted):
        shot = Shot(set_name, person, prompt, results.settings.seed)
        tiles = [photo(person.references[0]), *(pictures.open(method, shot) for method in results.methods)]
        for column, tile in enumerate(tiles):
            canvas.paste(fitted(tile), (_GAP_PX + column * step, _HEAD_PX + row * step))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _within(pen: ImageDraw.ImageDraw, font: Any, text: str) -> str:
    """In two lines of a tile's width."""
    lines = [""]
    for letter in text:
        if pen.textlength(lines[-1] + letter, font) > TILE_PX:
            lines.append("")
        lines[-1] += letter
    return "\n".join(lines[:2])
