"""Checking shards against every promise of docs/data-format.md, and saying all that is wrong.

One shard at a time, as a pure function of its bytes and its part of the index, so that any number can be
checked side by side. Knows nothing of the ledger or of how the dataset was built.
"""

from __future__ import annotations

import os
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO, Any

from crawl.decode import decode
from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import Rejection, bucket_of
from filter.keypoints import NAMES
from shards.checksum import Both
from shards.index import FOLDER, INDEX, Index, IndexRow, ShardRow, place_of, read_index
from shards.read import parse_sample
from shards.sample import Sample
from shards.tar import ShardError, regions

_NUMBER = (int, float)
FIELDS: dict[str, type | tuple[type, ...]] = {
    "key": str,
    "identity": str,
    "general": str,
    "background": str,
    "body": str,
    "class_word": str,
    "trigger_position": int,
    "caption_made_by": str,
    "original_size": list,
    "crop_top_left": list,
    "crop_xyxy_px": list,
    "size_px": int,
    "face_xyxy_px": list,
    "landmarks_px": list,
    "face_score": _NUMBER,
    "faces_in_photo": int,
    "identity_score": _NUMBER,
    "identity_rule": str,
    "sharpness": _NUMBER,
    "colourfulness": _NUMBER,
    "keypoints": list,
    "keypoint_scores": list,
    "keypoints_reason": str,
    "sha256": str,
    "page_url": str,
    "image_url": str,
    "licence": str,
    "author": str,
    "fetched_at": str,
    "signals": str,
    "models": list,
}
"""What KEY.json must hold, and as what."""


@dataclass(slots=True)
class Contents:
    """What a tar was found to hold, whatever an index says."""

    file: str
    num_bytes: int
    sha256: str = ""
    xxh3_128: str = ""
    rows: list[IndexRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def verify_dataset(output: Output) -> list[str]:
    """Everything wrong with the shards of a dataset folder, one line each; [] when all promises hold."""
    try:
        index = read_index(output)
    except InputError as error:
        return [str(error)]
    problems = [*_strays(output, index), *_misplaced(index)]
    for shard, rows in rows_by_shard(index):
        problems += verify_shard(output, shard, rows)
    return problems


def rows_by_shard(index: Index) -> Iterator[tuple[ShardRow, list[IndexRow]]]:
    """The arguments of `verify_shard`, for each shard of the dataset."""
    shards = {shard.file: shard for shard in index.shards}
    for file, rows in groupby(index.rows(), key=lambda row: row.shard):
        yield shards[file], list(rows)


def verify_shard(output: Output, shard: ShardRow, rows: Sequence[IndexRow]) -> list[str]:
    """Everything wrong with one shard, given what the index says of it."""
    name = f"{FOLDER}/{shard.file}"
    try:
        with output.open(name) as file:
            found = _inspect(file, name)
    except FileNotFoundError:
        return [f"{name}: is missing"]
    problems = found.problems
    if found.num_bytes != shard.num_bytes:
        problems.append(f"{name}: has {found.num_bytes:,} bytes, the index says {shard.num_bytes:,}")
    if found.sha256 != shard.sha256:
        problems.append(f"{name}: its sha256 is {found.sha256}, the index says {shard.sha256}")
    if shard.xxh3_128 not in (found.xxh3_128, None):
        problems.append(f"{name}: its xxh3_128 is {found.xxh3_128}, the index says {shard.xxh3_128}")
    if len(found.rows) != shard.samples:
        problems.append(f"{name}: has {len(found.rows)} readable samples, the index says {shard.samples}")
    different = next(((f, r) for f, r in zip(found.rows, rows, strict=False) if not _same_place(f, r)), None)
    if different is not None:
        problems.append(f"{name}: holds {_place(different[0])} where the index has {_place(different[1])}")
    return problems


def verify_tar(path: str | os.PathLike[str]) -> list[str]:
    """Everything wrong with one tar on this machine, without an index."""
    try:
        with open(path, "rb") as file:
            return _inspect(file, os.fspath(path)).problems
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{os.fspath(path)}: no such file") from None


def _inspect(file: IO[bytes], name: str) -> Contents:
    """Read a whole tar once: members, samples, pictures, adjacency, checksums."""
    found = Contents(os.path.basename(name), file.seek(0, os.SEEK_END))
    checksums, hashed = Both(), 0
    try:
        for key, offset, num_bytes in regions(file, found.num_bytes, name):
            file.seek(offset)
            region = file.read(num_bytes)
            checksums.update([region])
            hashed = offset + len(region)
            identity, problems = _examine(region, name)
            found.problems += problems
            found.rows.append(IndexRow(key, identity, found.file, offset, num_bytes))
    except ShardError as error:
        found.problems.append(str(error))
    file.seek(hashed)
    while rest := file.read(1 << 20):
        checksums.update([rest])
    found.sha256, found.xxh3_128 = checksums.sha256, checksums.xxh3_128
    found.problems += [f"{name}: {problem}" for problem in _order_problems(found.rows)]
    return found


def _examine(region: bytes, name: str) -> tuple[str, list[str]]:
    """(identity, what is wrong with the sample); the identity is "" when the sample can't be read."""
    try:
        sample = parse_sample(region, name)
    except ShardError as error:
        return "", [str(error)]
    problems = [*_field_problems(sample.metadata), *_keypoint_problems(sample.metadata), *_picture_problems(sample)]
    return sample.identity, [f"{name}: {sample.key}: {problem}" for problem in problems]


def _field_problems(metadata: dict[str, Any]) -> Iterator[str]:
    for field_name, kinds in FIELDS.items():
        if field_name not in metadata:
            yield f"the JSON has no {field_name}"
        elif not isinstance(metadata[field_name], kinds) or isinstance(metadata[field_name], bool):
            yield f"{field_name} in the JSON is {reprlib.repr(metadata[field_name])}"


def _keypoint_problems(metadata: dict[str, Any]) -> Iterator[str]:
    points, scores = metadata.get("keypoints"), metadata.get("keypoint_scores")
    if isinstance(points, list) and not (len(points) == len(NAMES) and all(map(_is_point, points))):
        yield f"keypoints in the JSON are not {len(NAMES)} points: {reprlib.repr(points)}"
    if isinstance(scores, list) and not (
        len(scores) == len(NAMES) and all(_is_number(s) and 0 <= s <= 1 for s in scores)
    ):
        yield f"keypoint_scores in the JSON are not {len(NAMES)} numbers of 0–1: {reprlib.repr(scores)}"


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool)


def _picture_problems(sample: Sample) -> Iterator[str]:
    for suffix, content in (("jpg", sample.image_jpeg), ("face.jpg", sample.face_jpeg)):
        image = decode(content)
        if isinstance(image, Rejection):
            yield f"the {suffix} does not decode: {image.reason}"
        elif image.shape[0] != image.shape[1]:
            yield f"the {suffix} is not square: {image.shape[1]} × {image.shape[0]} px"
        elif suffix == "jpg" and image.shape[0] != sample.metadata.get("size_px"):
            yield f"the jpg is {image.shape[0]} px a side, the JSON says {reprlib.repr(sample.metadata.get('size_px'))}"


def _order_problems(rows: Sequence[IndexRow]) -> Iterator[str]:
    seen: set[str] = set()
    for row in rows:
        if row.key in seen:
            yield f"{row.key} is there twice"
        seen.add(row.key)
    runs = Counter(identity for identity, _ in groupby(row.identity for row in rows if row.identity))
    for identity, count in sorted(runs.items()):
        if count > 1:
            yield f"the samples of identity {identity} are not adjacent"


def _strays(output: Output, index: Index) -> list[str]:
    known = {f"{FOLDER}/{shard.file}" for shard in index.shards} | {INDEX}
    found = (f"{FOLDER}/{name}" for name in output.names(FOLDER))
    return [f"{name}: is not in the index" for name in found if name not in known]


def _misplaced(index: Index) -> Iterator[str]:
    for identity, positions in index.identities.items():
        file, bucket = index.shards[index.shard_numbers[positions[0]]].file, bucket_of(identity, index.buckets)
        if place_of(file)[0] != bucket:
            yield f"{FOLDER}/{file}: identity {identity} belongs into bucket {bucket:05d}"


def _same_place(one: IndexRow, other: IndexRow) -> bool:
    same_identity = one.identity in (other.identity, "")
    return same_identity and (one.key, one.offset, one.num_bytes) == (other.key, other.offset, other.num_bytes)


def _place(row: IndexRow) -> str:
    return f"{row.key} of {row.identity} ({row.num_bytes:,} bytes at {row.offset:,})"
