"""Sample grids: a row a held-out person — references, prompt, what was generated — as one picture to look at.

Knows nothing of schedules and files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from train.adapters.adapter import Adapter
from train.base_models import Base
from train.config import SamplesConfig
from train.data.batch import Batch
from train.data.source import BatchSource
from train.prompt import parse_prompt
from train.sampling import Sampling, encoded, noise_of, sample

TILE_PX = 160
_GAP_PX = 6
_TEXT_PX = 12
_HEAD_PX = 26
_MARGIN_PX = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One person: reference faces, then each prompt with what was generated for it."""

    references: Sequence[Image.Image]
    generated: Sequence[tuple[str, Image.Image]]


def sample_grid(
    base: Base, adapter: Adapter, source: BatchSource, samples: SamplesConfig, seed: int = 0
) -> Image.Image:
    """Held-out people in turn, each with its own noise, the same in every grid. The adapter is left as it was."""
    training = adapter.training
    adapter.eval()
    batch = _one_each(source, samples.identities)
    how = Sampling(steps=samples.steps, guidance=samples.guidance, merge_step=samples.merge_step)
    noise = noise_of(base, range(seed, seed + len(batch)), batch.latents.shape[-1] * base.vae.factor)
    columns = []
    for asked in _with_prompts(base, adapter, batch, samples.prompts):
        texts = [_all_parts(asked, row) for row in range(len(batch))]
        columns.append(list(zip(texts, sample(base, adapter, asked, how, noise), strict=True)))
    adapter.train(training)
    faces = [[to_image(face) for face in row] for row in source.faces(batch)]
    return draw([Row(row, [column[i] for column in columns]) for i, row in enumerate(faces)])


def draw(rows: Sequence[Row]) -> Image.Image:
    """Rows of tiles on white; prompts are wrapped into a tile of their own."""
    slots = max(len(row.references) for row in rows)
    wide = slots + 2 * max(len(row.generated) for row in rows)
    step = TILE_PX + _GAP_PX
    canvas = Image.new("RGB", (wide * step + _GAP_PX, _HEAD_PX + len(rows) * step), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_TEXT_PX)
    heads = {0: "references", **{at: ("prompt", "generated")[(at - slots) % 2] for at in range(slots, wide)}}
    for place, name in heads.items():
        pen.text((_GAP_PX + place * step, _GAP_PX), name, "grey", font)
    for i, row in enumerate(rows):
        top = _HEAD_PX + i * step
        told = [tile for text, picture in row.generated for tile in (text_tile(text), picture)]
        for place, picture in [*enumerate(row.references), *enumerate(told, start=slots)]:
            canvas.paste(fitted(picture), (_GAP_PX + place * step, top))
    return canvas


def fitted(picture: Image.Image) -> Image.Image:
    """Pixels of small pictures stay pixels."""
    way = Image.Resampling.NEAREST if max(picture.size) < TILE_PX else Image.Resampling.LANCZOS
    return picture.resize((TILE_PX, TILE_PX), way)


def text_tile(text: str) -> Image.Image:
    """Words wrapped to a tile; what does not fit ends in an ellipsis."""
    tile = Image.new("RGB", (TILE_PX, TILE_PX), "white")
    pen, font = ImageDraw.Draw(tile), ImageFont.load_default(_TEXT_PX)
    lines, most = [""], (TILE_PX - 2 * _MARGIN_PX) // (_TEXT_PX + 3)
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font) <= TILE_PX - 2 * _MARGIN_PX:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
    pen.multiline_text((_MARGIN_PX, _MARGIN_PX), "\n".join(lines), "black", font, spacing=3)
    return tile


def to_image(pixels: Tensor) -> Image.Image:
    """uint8 [3, H, W] → RGB."""
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def _one_each(source: BatchSource, people: int) -> Batch:
    """As many people as there are, at most `people`."""
    batch = source.held_out(people)
    there = len(set(batch.identities))
    return batch if there == len(batch) else source.held_out(there)


def _with_prompts(base: Base, adapter: Adapter, batch: Batch, prompts: Sequence[str]) -> list[Batch]:
    """The batch with each prompt in turn; with its own captions when there are none."""
    if not prompts:
        return [batch]
    needs, size = type(adapter).needs(adapter.settings), len(batch)
    asked = []
    for prompt in prompts:
        text, position = parse_prompt(prompt)
        words = encoded(base, needs, [text] * size, [""] * size, [""] * size, [position] * size)
        asked.append(batch.replace(prompts=words))
    return asked


def _all_parts(batch: Batch, row: int) -> str:
    prompts = batch.prompts
    return "; ".join(part for part in (prompts.general[row], prompts.background[row], prompts.body[row]) if part)
