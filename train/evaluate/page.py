"""evaluation.html: methods side by side, pictures under the numbers; one file, nothing loaded from elsewhere.

A table is of one set, one family of metrics and one model: numbers of different embedders never share a column.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from crawl.output import Output
from train.evaluate.meters import photo
from train.evaluate.people import PeopleSet, Person
from train.evaluate.pictures import Pictures
from train.evaluate.prompts import prompts_of
from train.evaluate.results import Results
from train.evaluate.rows import LEVELS, METRICS, TINY, Metric, described
from train.evaluate.scores import Score
from train.evaluate.settings import EvaluatePrompt
from train.evaluate.shots import Shot
from train.evaluate.weights import needed

PAGE = "evaluation.html"
MOST_PICTURES = 360
"""In the page; beyond, fewer people are shown."""
_TILE_PX, _QUALITY, _BAR_PX = 176, 82, 88
TITLES = {
    "face": "Is it the person? Face-Sim", "prompt": "Is it what was asked for? CLIP-T", "likeness": "CLIP-I",
    "set": "Does it look like photos?", "pose": "Pose", "diversity": "Diversity",
}  # fmt: skip
SETS = {
    "in_train": ("In train", "people whom every run was trained on"),
    "out_of_train": ("Out of train", "people whom no run was trained on"),
    "out_of_domain": ("Out of domain", "people of the folder that was given"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of one method."""

    text: str
    interval: str
    left: float
    """Where on the column's scale the interval begins, its mean stands, and how wide it is, in px of the bar."""
    at: float
    width: float
    best: bool
    headline: bool
    note: str


@dataclass(frozen=True, slots=True)
class Table:
    """One family of metrics, measured by one model, on one set."""

    title: str
    model: str
    columns: Sequence[Metric]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]
    levels: Sequence[tuple[str, Sequence[Cell | None]]]
    """Of photos; none where there were none to measure."""
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Line:
    """A person and prompt: what each method made."""

    prompt: str
    tiles: Sequence[tuple[str, str]]
    """Method and picture."""


def write_page(output: Output, results: Results) -> None:
    """From what is on disk already."""
    jinja2 = needed("jinja2", "page")
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("evaluation.html.j2").render(
        results=results, sets=list(_sets(output, results)), prompts=prompts_of(results.settings), tiny=_tiny(results)
    )
    output.write(PAGE, text.encode())


def _sets(output: Output, results: Results) -> Iterator[dict[str, object]]:
    pictures = Pictures(output, results.settings)
    there = sum(bool(group.people) for group in results.sets)
    for group in results.sets:
        per_person = len(prompts_of(results.settings)) * len(results.methods)
        shown = group.people[: max(1, MOST_PICTURES // max(1, there * per_person))]
        yield {
            "title": SETS[group.name][0],
            "what": SETS[group.name][1],
            "group": group,
            "tables": list(tables(results, group.name)),
            "people": [
                ([_uri(photo(sample)) for sample in person.references], list(_lines(pictures, results, group, person)))
                for person in shown
            ],
        }


def tables(results: Results, set_name: str) -> Iterator[Table]:
    """Those of a set, in order."""
    own = [score for score in results.scores if score.set_name == set_name]
    for family, title in TITLES.items():
        of_family = [score for score in own if score.about.family == family]
        shared = [score for score in of_family if score.metric in ("no_face", "no_pose")]
        models = dict.fromkeys(score.model for score in of_family if score not in shared)
        for model in models:
            scores = [score for score in of_family if score.model == model or score in shared]
            measured = {score.metric for score in scores}
            names = [name for name in METRICS if METRICS[name].family == family == "face"] or _order(measured)
            columns = {name: [score for score in scores if score.metric == name] for name in names}
            rows = [(row, [_cell(row, columns[name]) for name in names]) for row in (*_names(results), *LEVELS)]
            there = len(results.methods)
            yield Table(
                title,
                model,
                [described(name) for name in names],
                rows[:there],
                [(level, cells) for level, cells in rows[there:] if any(cells)],
                list(_notes(results, family, model, scores)),
            )


def _names(results: Results) -> list[str]:
    return [method.name for method in results.methods]


def _order(names: Collection[str]) -> list[str]:
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(names, key=lambda name: places[name.replace(TINY, "")])


def _notes(results: Results, family: str, model: str, scores: Sequence[Score]) -> Iterator[str]:
    yield from dict.fromkeys(score.note for score in scores if score.note)
    levels = [level for level in LEVELS if any(score.method == level for score in scores)]
    if levels:
        yield "; ".join(f"{level}: {LEVELS[level]}" for level in levels)
    if family == "face":
        embedder = next((k.removeprefix("face ") for k, v in results.models.items() if v == model), "")
        judged = [method.name for method in results.methods if method.trained_with == embedder]
        if len(results.settings.embedders) == 1:
            yield "one embedder alone: a second one (embedders: [embedded, open]) tells whether it was fooled"
        if judged:
            yield f"not independent: {', '.join(judged)} saw this embedder in training"


def _cell(method: str, column: Sequence[Score]) -> Cell | None:
    score = next((one for one in column if one.method == method), None)
    if score is None:
        return None
    about, ends = score.about, [e for one in column for e in (one.mean, one.low, one.high) if e is not None]
    least, span = min(ends), (max(ends) - min(ends)) or 1.0
    place = [
        _BAR_PX * (value - least) / span
        for value in (_or(score.low, score.mean), score.mean, _or(score.high, score.mean))
    ]
    means = [round(one.mean, about.digits) for one in column if one.headline and one.method not in LEVELS]
    best = {"higher": max, "lower": min}.get(about.better)
    return Cell(
        text=f"{score.mean:z.{about.digits}f}",
        interval="" if score.low is None else f"{score.low:z.{about.digits}f} – {score.high:z.{about.digits}f}",
        left=place[0],
        at=place[1],
        width=max(1.0, place[2] - place[0]),
        best=best is not None
        and score.headline
        and method not in LEVELS
        and len(set(means)) > 1
        and round(score.mean, about.digits) == best(means),
        headline=score.headline,
        note=f"{score.images} {'photos' if method in LEVELS else 'pictures'} of {score.people} people",
    )


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _lines(pictures: Pictures, results: Results, group: PeopleSet, person: Person) -> Iterator[Line]:
    for prompt in prompts_of(results.settings):
        yield Line(prompt.whole, list(_tiles(pictures, results, group.name, person, prompt)))


def _tiles(
    pictures: Pictures, results: Results, set_name: str, person: Person, prompt: EvaluatePrompt
) -> Iterator[tuple[str, str]]:
    for method in results.methods:
        shot = Shot(set_name, person, prompt, results.settings.seed)
        yield method.name, _uri(pictures.open(method, shot))


def _uri(picture: Image.Image) -> str:
    """Small pictures as they are, others as small JPEGs."""
    buffer = io.BytesIO()
    if max(picture.size) <= _TILE_PX // 2:
        picture.save(buffer, "PNG")
        kind = "png"
    else:
        picture.thumbnail((2 * _TILE_PX, 2 * _TILE_PX))
        picture.save(buffer, "JPEG", quality=_QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _tiny(results: Results) -> bool:
    return any(TINY in score.metric for score in results.scores)
