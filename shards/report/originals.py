"""Photos that did not get into the shards: found in `photos/`, decoded strictly, cut to the face in question.

What cannot be shown has a reason instead. Every hash and table is taken as given by a stranger.
"""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image as PILImage

from crawl.decode import decode_picture
from crawl.output import Output
from crawl.photo import Rejection
from crawl.tables import Tables, from_record
from filter.crop import face_square
from filter.decide import IDENTITIES, Verified
from filter.faces import Box, Face
from filter.scan import Scanned
from filter.verify import IdentityFinding
from shards.beside.ledger import LedgerRow

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUFFIXES = ("jpg", "png", "webp", "avif", "bin")
_decoder = threading.Lock()
"""`decode_picture` is for one thread at a time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The face of a photo that was compared with the person's centre, and what all its faces measured."""

    box_xyxy_px: Box
    cosines: tuple[float, ...]
    """Of every face that counts, nearest first; () when the name has no centre."""


class Originals:
    """The originals of one dataset, and what the scan saw in them."""

    def __init__(self, output: Output) -> None:
        self._output, self._tables = output, Tables(output)

    def picture(self, row: LedgerRow) -> PILImage.Image | str:
        """The whole photo, upright; or why it cannot be shown."""
        why_not = self.missing(row)
        if why_not:
            return why_not
        with _decoder:
            picture = decode_picture(self._output.read(str(self._name(row.sha256))))
        return f"cannot be decoded: {picture.reason}" if isinstance(picture, Rejection) else picture

    def missing(self, row: LedgerRow) -> str:
        """Why there is no picture of it, without opening any; "" when there may be one."""
        return unseen(row) or ("" if self._name(row.sha256) else "the original is not in this folder")

    def face(self, row: LedgerRow) -> PILImage.Image | str:
        """The face in question with what is around it; the whole photo where no face was looked at."""
        picture, seen = self.picture(row), self.seen(row.bucket, row.key)
        if isinstance(picture, str) or seen is None:
            return picture
        return picture.crop(face_square(picture.height, picture.width, seen.box_xyxy_px))

    def seen(self, bucket: int, key: str) -> Seen | None:
        """None when no face of it was embedded, or the working tables are gone."""
        scanned = self._scanned(bucket).get(key)
        if scanned is None or not scanned.faces:
            return None
        centre = self._centres(bucket).get(scanned.photo.identity)
        cosines = [_cosine(face, centre) for face in scanned.faces] if centre is not None else []
        order = sorted(range(len(scanned.faces)), key=lambda n: -cosines[n]) if cosines else [0]
        verified = self._verified(bucket).get(key)
        chosen = verified.face_index if verified else order[0]
        box = scanned.faces[min(chosen, len(scanned.faces) - 1)].box_xyxy_px
        return Seen(box, tuple(cosines[n] for n in order) if cosines else ())

    def score(self, bucket: int, key: str) -> float | None:
        """A kept photo's cosine to the person's centre; None when the working tables are gone."""
        verified = self._verified(bucket).get(key)
        return verified.score if verified else None

    def finding(self, bucket: int, identity: str) -> IdentityFinding | None:
        """What verification found of one name; None when the working tables are gone."""
        return self._findings(bucket).get(identity)

    def _name(self, sha256: str) -> str | None:
        if not _SHA256.fullmatch(sha256):
            return None
        names = (f"photos/{sha256[:2]}/{sha256}.{suffix}" for suffix in _SUFFIXES)
        return next((name for name in names if self._output.exists(name)), None)

    @functools.lru_cache(maxsize=2)  # noqa: B019 -- one dataset a process
    def _scanned(self, bucket: int) -> dict[str, Scanned]:
        """Of the bucket's photos that are in no shard: rows of the others, with their embeddings, are not made."""
        name = f"tables/scan/{bucket:05d}.parquet"
        if not self._output.exists(name):
            return {}
        ended = {key for key, row in self._tables.rejections("shards", bucket).items() if row is None}
        with self._output.open(name) as file:
            table = pq.ParquetFile(file).read(columns=["key", "row"])
        left = pc.and_(pc.is_valid(table["row"]), pc.invert(pc.is_in(table["key"], pa.array(ended, pa.string()))))
        table = table.filter(left)
        rows = zip(table["key"].to_pylist(), table["row"].to_pylist(), strict=True)
        return {key: from_record(Scanned, row) for key, row in rows}

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _verified(self, bucket: int) -> dict[str, Verified]:
        entries = self._tables.read("verify", bucket, Verified)
        return {entry.key: entry.row for entry in entries if entry.row is not None}

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _findings(self, bucket: int) -> dict[str, IdentityFinding]:
        entries = self._tables.read(IDENTITIES, bucket, IdentityFinding)
        return {entry.key: entry.row for entry in entries if entry.row is not None}

    def _centres(self, bucket: int) -> dict[str, np.ndarray]:
        return {key: row.centre for key, row in self._findings(bucket).items() if row.centre is not None}


def unseen(row: LedgerRow) -> str:
    """Why there is no picture of it whatever lies in the folder, or ""."""
    if row.status == "removed":
        return "taken down"
    if not row.sha256:
        return (
            f"could not be had: {row.reason}"
            if row.status == "failed"
            else "the ledger does not tell which photo it was"
        )
    if row.reason == "crash":
        return "not opened: it killed the process that looked at it"
    return ""


def _cosine(face: Face, centre: np.ndarray) -> float:
    embedding = face.embedding
    return -2.0 if embedding is None or len(embedding) != len(centre) else float(embedding @ centre)
