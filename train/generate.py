"""`python -m train generate`: a prompt and reference photos in, images out.

The same command begins with the same noise on every machine. Knows no method beyond what it needs.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
from collections.abc import Sequence

import torch
from PIL import Image, PngImagePlugin

from crawl.command import console
from crawl.errors import InputError
from crawl.output import Output
from filter.config import FilterConfig
from shards.format.sample import Sample
from train.adapters.adapter import Adapter, Conditions
from train.adapters.settings import PulidSettings
from train.asked import Asked, batch_of
from train.base_models import Base
from train.config import TrainRun
from train.data.batch import Batch
from train.portraits import Portraits, keypoints_of
from train.prompt import parse_prompt
from train.restore import restore
from train.sampling import SCHEDULERS, Sampling, noise_of, sample

AT_ONCE = 4
"""Pictures denoised together."""
SIDES_PX = {"tiny": 64, "sd15": 512, "sdxl": 1024}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", metavar="RUN|FILE", help="a run's output folder, a checkpoint, or an exported file")
    parser.add_argument("--config", metavar="RUN.yaml", help="run file of an exported file that names none")
    parser.add_argument("--prompt", required=True, help="the general part; its class word (woman, man …) is the person")
    parser.add_argument("--background", default="", help="the background part")
    parser.add_argument("--body", default="", help="the body part")
    parser.add_argument("--class-word", metavar="WORD", help="default: the first known one, or that before `img`")
    parser.add_argument("--negative", metavar="PROMPT", default="", help="what guidance leads away from")
    parser.add_argument("--reference", metavar="PHOTO", nargs="+", default=[], help="photos of one person")
    parser.add_argument("--look", metavar="PHOTO", nargs="+", default=[], help="photos of the body; else --reference's")
    parser.add_argument("--pose", metavar="PHOTO", help="a photo of somebody in the pose that is wanted")
    parser.add_argument("--detector", choices=("embedded", "open"), default="embedded", help="finds their faces")
    parser.add_argument("--output", metavar="FOLDER", default="out/generated", help="default: %(default)s")
    parser.add_argument("--count", type=int, default=1, help="pictures, of seeds that count up; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture's noise; default: %(default)s")
    parser.add_argument("--steps", type=int, default=50, help="of denoising; default: %(default)s")
    parser.add_argument("--guidance", type=float, default=5.0, help="1: none; default: %(default)s")
    parser.add_argument("--merge-step", type=int, help="references enter from this step; default: the run file's")
    parser.add_argument("--scale", metavar="NAME=X", nargs="+", default=[], help="factor of a condition's attention")
    parser.add_argument("--mode", choices=("plain", "fidelity", "style"), help="PuLID's; default: the run file's")
    parser.add_argument("--scheduler", choices=tuple(SCHEDULERS), default="euler", help="default: %(default)s")
    parser.add_argument("--size-px", type=int, help="side; default: the run file's, or the base's own")


def run(parsed: argparse.Namespace) -> int:
    """Writes OUTPUT/SEED.png, each with its settings inside. Raises InputError."""
    how = sampling(parsed)
    parse_prompt(parsed.prompt, parsed.class_word)
    cut = _Cut(parsed)
    trained, base, adapter = restore(parsed.weights, parsed.config)
    side_px = checked_side_px(parsed.size_px or usual_side_px(trained), base)
    if parsed.mode is not None:
        _set_mode(adapter, parsed.mode)
    if parsed.merge_step is None:
        how = dataclasses.replace(how, merge_step=min(trained.samples.merge_step, how.steps))
    to_gpu(base, adapter)
    seeds = range(parsed.seed, parsed.seed + parsed.count)
    output, say = Output(parsed.output), console().print
    for at in range(0, len(seeds), AT_ONCE):
        part = seeds[at : at + AT_ONCE]
        batch = request(base, adapter, parsed, cut, len(part), side_px)
        for seed, picture in zip(part, sample(base, adapter, batch, how, noise_of(base, part, side_px)), strict=True):
            output.write(f"{seed:04d}.png", _png(picture, parsed, how, seed))
            say(output.path(f"{seed:04d}.png"))
    return 0


def _set_mode(adapter: Adapter, mode: str) -> None:
    """Raises InputError for a method that has none."""
    if not isinstance(adapter.settings, PulidSettings):
        raise InputError(f"--mode: {mode}: {adapter.kind} has no modes")
    adapter.settings = adapter.settings.model_copy(update={"mode": mode})


def sampling(parsed: argparse.Namespace) -> Sampling:
    """Raises InputError for a number that makes no sense."""
    merge_step = parsed.merge_step or 0
    for name in ("steps", "count", "guidance"):
        if not getattr(parsed, name) >= 1:
            raise InputError(f"--{name}: {getattr(parsed, name)} is less than 1")
    if not 0 <= merge_step <= parsed.steps:
        raise InputError(f"--merge-step: {merge_step} is not in 0 … {parsed.steps}, the steps")
    scales = {}
    for text in parsed.scale:
        name, equals, number = text.partition("=")
        try:
            scales[name] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"--scale: {text}: expected NAME=X, for example identity=0.8")
    return Sampling(parsed.steps, parsed.guidance, merge_step, parsed.scheduler, parsed.negative, scales)


def request(base: Base, adapter: Adapter, parsed: argparse.Namespace, cut: _Cut, count: int, side_px: int) -> Batch:
    """What is asked for, as a batch of `count` times the same. Raises InputError when the adapter cannot use it."""
    needs, references = type(adapter).needs(adapter.settings), cut.references
    for option, given, used in (("look", cut.looks, needs.bodies), ("pose", cut.pose, needs.keypoints)):
        if given and not used:
            raise InputError(f"--{option}: {adapter.kind} takes none")
    if needs.references and not references:
        raise InputError(f"--reference: {adapter.kind} makes pictures of somebody: name a photo or more")
    most = getattr(adapter.settings, "max_references", len(references))
    if len(references) > most:
        raise InputError(f"--reference: {len(references)} photos, this adapter takes {most} (adapter.max_references)")
    prompt, position = parse_prompt(parsed.prompt, parsed.class_word)
    pose = None if cut.pose is None else keypoints_of(cut.pose)
    one = Asked(prompt, parsed.background, parsed.body, position, cut.references, cut.looks, pose)
    batch = batch_of(base, adapter, [one] * count, side_px)
    if needs.references and not _references_matter(adapter, batch):
        raise InputError(f"--prompt: {prompt!r}: {adapter.kind} finds no class word (woman, man …): say --class-word")
    return batch


@torch.no_grad()
def _references_matter(adapter: Adapter, batch: Batch) -> bool:
    """False when the adapter makes the same of the batch without them."""
    merged, plain = (_tensors(adapter.conditions(one)) for one in (batch, batch.without(identity=True)))
    return [tensor.shape for tensor in merged] != [tensor.shape for tensor in plain] or not all(
        torch.equal(one, other) for one, other in zip(merged, plain, strict=True)
    )


def _tensors(conditions: Conditions) -> list[torch.Tensor]:
    found = [conditions.text, conditions.pooled]
    for stream in conditions.streams.values():
        found += [stream.tokens, stream.mask, stream.present]
    return [tensor for tensor in found if tensor is not None]


class _Cut:
    """The photos of a command, cut. Bodies as a dataset with `framing: body` holds them, poses by BlazePose."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        """Raises InputError naming the photo at fault."""
        of_bodies = {"models": parsed.detector, "framing": "body", "pose": "blazepose"}
        self.references = _cut(parsed.reference, {"models": parsed.detector})
        self.looks = _cut(parsed.look, of_bodies)
        posing = _cut([parsed.pose] if parsed.pose else [], of_bodies)
        self.pose: Sample | None = posing[0] if posing else None


def _cut(paths: Sequence[str], how: dict[str, str]) -> tuple[Sample, ...]:
    if not paths:
        return ()
    portraits = Portraits(FilterConfig.model_validate(how))
    return tuple(portraits.cut(path) for path in paths)


def usual_side_px(run: TrainRun) -> int:
    """What a run was trained at, or its base's own."""
    return run.data.size_px or SIDES_PX[run.base.family]


def checked_side_px(side_px: int, base: Base) -> int:
    """Raises InputError for a side that the base cannot make."""
    least = base.vae.factor * 2 ** (len(base.unet.config.block_out_channels) - 1)
    if side_px < least or side_px % least:
        raise InputError(f"--size-px: {side_px} is no multiple of {least}, which this base asks for")
    return side_px


def to_gpu(base: Base, adapter: Adapter) -> None:
    """Where there is one."""
    if torch.cuda.is_available():
        for module in (base.unet, base.text, base.vae, adapter, *([] if base.clip is None else [base.clip])):
            module.to("cuda")


def _png(picture: Image.Image, parsed: argparse.Namespace, how: Sampling, seed: int) -> bytes:
    """With what it was made from, except whose photos."""
    asked = {name: getattr(parsed, name) for name in ("prompt", "background", "body")}
    about = PngImagePlugin.PngInfo()
    settings = {**asked, **dataclasses.asdict(how), "seed": seed, "references": len(parsed.reference)}
    about.add_text("personae", json.dumps(settings, sort_keys=True))
    file = io.BytesIO()
    picture.save(file, "PNG", pnginfo=about)
    return file.getvalue()
