"""How long each step took for each bucket: `tables/timings/BUCKET.json`, for a person to read.

Working data that nothing is made from: a table's bytes and fingerprint know nothing of time. Knows no stage.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from crawl.output import Output

FOLDER = "tables/timings"


@dataclass(frozen=True, slots=True)
class Timing:
    """The last time a step ran, on one worker, models loaded on the way included."""

    photos: int
    seconds: float


def note(output: Output, bucket: int, stage: str, timing: Timing) -> None:
    """Remember it beside the bucket's other steps. One worker has a bucket at a time."""
    steps = {name: (t.photos, t.seconds) for name, t in timings(output, bucket).items()}
    steps[stage] = (timing.photos, round(timing.seconds, 3))
    output.write(_name(bucket), json.dumps(steps, sort_keys=True).encode(), sync_folder=False)


def timings(output: Output, bucket: int) -> dict[str, Timing]:
    """By step; {} when none is on record, or the record is no longer to be read."""
    try:
        steps = json.loads(output.read(_name(bucket)))
        return {str(name): Timing(int(photos), float(seconds)) for name, (photos, seconds) in steps.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def total_timings(output: Output) -> dict[str, Timing]:
    """Over all buckets: photos, and the seconds of all workers together."""
    total: dict[str, Timing] = {}
    for name in output.names(FOLDER):
        if name[:5].isdecimal():
            for stage, timing in timings(output, int(name[:5])).items():
                before = total.get(stage, Timing(0, 0.0))
                total[stage] = Timing(before.photos + timing.photos, before.seconds + timing.seconds)
    return total


def _name(bucket: int) -> str:
    return f"{FOLDER}/{bucket:05d}.json"
