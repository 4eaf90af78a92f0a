"""The files of an evaluation: metrics.parquet (a row a picture and metric), scores.json, and what made them."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crawl.output import Output
from train.evaluate.methods import Method
from train.evaluate.people import PeopleSet
from train.evaluate.rows import Row
from train.evaluate.scores import Score
from train.evaluate.settings import EvaluateSettings

ROWS, SCORES = "metrics.parquet", "scores.json"


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """All that an evaluation found."""

    methods: Sequence[Method]
    sets: Sequence[PeopleSet]
    rows: Sequence[Row]
    scores: Sequence[Score]
    settings: EvaluateSettings
    models: dict[str, str]
    """What measured → its name and content."""
    made_with: dict[str, str]

    def document(self) -> dict[str, Any]:
        """What scores.json holds."""
        return {
            "made_with": self.made_with,
            "models": self.models,
            "methods": [
                {
                    "name": method.name, "run": method.source, "step": method.step, "weights": method.digest,
                    "adapter": method.run.adapter.kind, "base": method.run.base.model_dump(mode="json"),
                    "conditioned_on_embedder": method.trained_with,
                }
                for method in self.methods
            ],
            "sets": [
                {
                    "name": group.name, "people": len(group.people), "note": group.note,
                    "photos": sum(len(person.references) + len(person.others) for person in group.people),
                }
                for group in self.sets
            ],
            "settings": self.settings.model_dump(mode="json"),
            "scores": [dataclasses.asdict(score) for score in self.scores],
        }  # fmt: skip


def write(output: Output, results: Results) -> None:
    """Both files, complete or not at all."""
    fields = [
        ("method", pa.string()), ("set", pa.string()), ("person", pa.string()), ("prompt", pa.string()),
        ("seed", pa.int64()), ("picture", pa.string()), ("metric", pa.string()), ("model", pa.string()),
        ("value", pa.float64()),
    ]  # fmt: skip
    columns = [[getattr(row, "set_name" if name == "set" else name) for row in results.rows] for name, _ in fields]
    buffer = io.BytesIO()
    table = pa.table([pa.array(c, kind) for c, (_, kind) in zip(columns, fields, strict=True)], pa.schema(fields))
    pq.write_table(table, buffer)
    output.write(ROWS, buffer.getvalue())
    text = json.dumps(results.document(), indent=1, ensure_ascii=False, allow_nan=False)
    output.write(SCORES, f"{text}\n".encode())
