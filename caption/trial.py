"""`python -m caption try CONFIG.yaml PHOTO … [key=value …]`: what a configuration says of a photo; nothing is kept.

The photo is cropped as a build would crop it, around its largest face; where no face is found, or its detector is not
at hand, the middle of the photo is shown instead. Needs no dataset.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caption.captioned import Caption
from caption.captioner import BACKENDS, Answer, Sitter
from caption.config import CaptionRun
from caption.models import licences
from caption.replies import NoReplies
from crawl.config import load
from crawl.decode import decode_picture, pixels
from crawl.errors import InputError
from crawl.photo import Photo, Rejection, identity_key, photo_key
from filter.config import FilterConfig
from filter.cut import cut
from filter.decide import Verified
from filter.faces import Face, FaceDetector, Image
from filter.models import load_detector, min_face_score
from filter.portrait import Portrait
from filter.resolution import measure
from filter.scan import Scanned


@dataclass(frozen=True, slots=True)
class Trial:
    """One photo under one configuration."""

    path: str
    portrait: Portrait
    shown: str
    """What part of the photo was described."""
    answer: Answer
    seconds: float
    """Of its batch, divided by the batch's photos; the first batch loads the model."""


def try_command(arguments: Sequence[str]) -> int:
    """Print each photo's three parts. Exit code 1 when one has no valid caption."""
    parser = argparse.ArgumentParser(
        prog="python -m caption try", description="Show what a configuration says of photos; nothing is kept."
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="a run file; its output folder is not touched")
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="a photo; key=value overrides may follow")
    parser.add_argument("--name", help="the person's name, which must not be in the caption")
    parsed = parser.parse_args(arguments)
    photos = [word for word in parsed.photos if not _is_override(word)]
    if not photos:
        raise InputError("name at least one photo")
    run = load(CaptionRun, parsed.config, [word for word in parsed.photos if _is_override(word)])
    for line in licences(run.caption):
        print(line, file=sys.stderr)
    trials = try_photos(run, photos, parsed.name)
    for trial in trials:
        print("\n".join(_lines(trial)))
    return 0 if all(isinstance(trial.answer.outcome, Caption) for trial in trials) else 1


def try_photos(run: CaptionRun, paths: Sequence[str], name: str | None = None) -> list[Trial]:
    """Crop and describe photos. Raises InputError for what cannot be read as a photo."""
    detector = _detector(run.filter)
    shown = [portrait_of(path, run.filter, detector) for path in paths]
    captioner = BACKENDS[run.caption.backend].open(run.caption, None)(NoReplies())
    start = time.monotonic()
    answers = list(captioner.captions(Sitter(portrait, name) for portrait, _ in shown))
    seconds = (time.monotonic() - start) / len(paths)
    return [
        Trial(path, portrait, what, answer, seconds)
        for path, (portrait, what), answer in zip(paths, shown, answers, strict=True)
    ]


def portrait_of(path: str, config: FilterConfig, detector: FaceDetector | None) -> tuple[Portrait, str]:
    """(the photo, cut; what is shown of it)."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    picture = decode_picture(content)
    image = picture if isinstance(picture, Rejection) else pixels(picture)
    if isinstance(image, Rejection):
        raise InputError(f"{path}: not a photo that can be used: {image.reason}")
    assert not isinstance(picture, Rejection)
    sha256 = hashlib.sha256(content).hexdigest()
    identity = identity_key("a trial")
    photo = Photo(photo_key(identity, path, sha256), identity, Path(path).name, sha256, len(content))
    face, faces, what = _face(image, config, detector)
    scanned = Scanned(photo, measure(picture), (face,), faces)
    return cut(picture, scanned, Verified(0, 1.0, ("trial",)), config), what


def _face(image: Image, config: FilterConfig, detector: FaceDetector | None) -> tuple[Face, int, str]:
    """(the largest face, how many there are, words for it). Without one, a box over the middle of the photo."""
    height, width = image.shape[:2]
    found = [] if detector is None else detector.detect(image, min(config.min_face_px, height // 8, width // 8))
    sure = [face for face in found if face.score >= min_face_score(config)]
    if sure:
        largest = max(sure, key=lambda face: face.side_px)
        return largest, len(found), f"around a face of {largest.side_px:.0f} px"
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    middle = (left + side / 2, top + side / 2)
    why = "no face found" if detector else "no face detector"
    return Face(box, (middle,) * 5, 0.0), 0, f"the middle: {why}"


def _detector(config: FilterConfig) -> FaceDetector | None:
    try:
        return load_detector(config)
    except InputError as error:
        print(f"no face detector: {error}", file=sys.stderr)
        return None


def _lines(trial: Trial) -> list[str]:
    outcome, effort = trial.answer.outcome, trial.answer.effort
    lines = [f"{trial.path} ({trial.shown})"]
    if isinstance(outcome, Rejection):
        lines.append(f"  no caption   {outcome.reason}{f': {outcome.detail}' if outcome.detail else ''}")
    else:
        lines += [
            f"  general      {outcome.general}",
            f"  background   {outcome.background or '(empty)'}",
            f"  body         {outcome.body}",
            f"  class word   {outcome.class_word}; the trigger goes after character {outcome.trigger_position}",
        ]
    if effort.replies:
        back = f", sent back for {', '.join(effort.faults)}" if effort.faults else ""
        tokens = f"{effort.prompt_tokens} + {effort.new_tokens} tokens"
        lines.append(f"  {effort.replies} replies{back}; {tokens}, {trial.seconds:.1f} s")
    return lines


def _is_override(word: str) -> bool:
    return "=" in word and not Path(word).exists()
