"""Pictures on disk: each says what it was made from, and one that is there already is not made again.

OUTPUT/pictures/METHOD/SET/PERSON/PROMPT-SEED.png,  …/METHOD/plain/PROMPT-SEED.png
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from crawl.output import Output
from train.evaluate.methods import Method
from train.evaluate.settings import EvaluateSettings
from train.evaluate.shots import Shot, asked, drawn, sampling_of
from train.generate import checked_side_px, usual_side_px

FOLDER = "pictures"
_KEY, _VERSION = "personae-made-from", 1


class Pictures:
    """Those of one evaluation."""

    def __init__(self, output: Output, settings: EvaluateSettings) -> None:
        self._output, self._settings = output, settings

    def make(self, method: Method, shots: Sequence[Shot], tick: Callable[[int], None]) -> int:
        """Those that are not there, or were made otherwise; how many. Raises InputError when the method cannot."""
        lacking = {
            id(shot): made for shot in shots if not self._is_there(method, shot, made := self._made_from(method, shot))
        }
        tick(len(shots) - len(lacking))
        if not lacking:
            return 0
        base, adapter = method.load()
        side_px = checked_side_px(self._side_px(method), base)
        wanted = [shot for shot in shots if id(shot) in lacking]
        for shot, picture in drawn(base, adapter, wanted, self._settings, side_px, method.listens_to):
            self._output.write(_name(method, shot), _png(picture, lacking[id(shot)]), sync_folder=False)
            tick(1)
        return len(lacking)

    def open(self, method: Method, shot: Shot) -> Image.Image:
        """RGB."""
        return Image.open(io.BytesIO(self._output.read(_name(method, shot)))).convert("RGB")

    def name(self, method: Method, shot: Shot) -> str:
        """Relative to the output."""
        return _name(method, shot)

    def _side_px(self, method: Method) -> int:
        return self._settings.size_px or usual_side_px(method.run)

    def _made_from(self, method: Method, shot: Shot) -> str:
        one = asked(shot, method.listens_to)
        keys = [] if shot.is_plain else [sample.key for sample in one.references]
        text: dict[str, Any] = {
            "weights": method.digest, "side_px": self._side_px(method), "seed": shot.seed, "references": keys,
            "prompt": [one.general, one.background, one.body, one.trigger_position],
            "how": dataclasses.asdict(sampling_of(self._settings)), "version": _VERSION,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()

    def _is_there(self, method: Method, shot: Shot, made_from: str) -> bool:
        if not self._output.exists(_name(method, shot)):
            return False
        try:
            with self._output.open(_name(method, shot)) as file, Image.open(file) as picture:
                return bool(picture.info.get(_KEY) == made_from)
        except (UnidentifiedImageError, OSError, SyntaxError):
            return False


def _name(method: Method, shot: Shot) -> str:
    return f"{FOLDER}/{method.name}/{shot.name}.png"


def _png(picture: Image.Image, made_from: str) -> bytes:
    about, file = PngImagePlugin.PngInfo(), io.BytesIO()
    about.add_text(_KEY, made_from)
    picture.save(file, "PNG", pnginfo=about)
    return file.getvalue()
