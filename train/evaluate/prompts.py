"""The prompts of an evaluation: the thesis' four (its table 4.1) in a split of ours, and which text a method is given.

The split follows the thesis' rule: general, body and background without losing information (5.2.4); the cuts are ours.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from train.evaluate.settings import EvaluatePrompt, EvaluateSettings
from train.prompt import TRIGGER, parse_prompt

THESIS = (
    EvaluatePrompt(
        name="castle",
        whole="Photo of a person looking into the camera, wearing a black cloak and red hat. Daytime, 3 mountains in "
        "the background, a medieval castle can be seen on the far right mountain",
        general="Photo of a person looking into the camera",
        body="wearing a black cloak and red hat",
        background="Daytime, 3 mountains in the background, a medieval castle can be seen on the far right mountain",
        class_word="person",
    ),
    EvaluatePrompt(
        name="bank",
        whole="A photo of an angry businessman in a yellow suit, talking on the phone and looking into the camera. He "
        "is in the street of a big city: to the left behind him is a bank building with a big sign above it saying "
        '"Neon Bank"',
        general="A photo of an angry businessman looking into the camera",
        body="in a yellow suit, talking on the phone",
        background="He is in the street of a big city: to the left behind him is a bank building with a big sign above "
        'it saying "Neon Bank"',
        class_word="businessman",
    ),
    EvaluatePrompt(
        name="desert",
        whole="A photo of a man in a space suit, his face is seen very surprised, he is in the desert near Oasis with "
        "lake, palm trees and a couple of camels behind him",
        general="A photo of a man, his face is seen very surprised",
        body="in a space suit",
        background="he is in the desert near Oasis with lake, palm trees and a couple of camels behind him",
        class_word="man",
    ),
    EvaluatePrompt(
        name="room",
        whole="A photo of a middle-aged man in a dark green sweater looking at the viewer, he is in a room with white "
        "walls, there is a portrait behind him and a books on a shelf",
        general="A photo of a middle-aged man looking at the viewer",
        body="in a dark green sweater",
        background="he is in a room with white walls, there is a portrait behind him and a books on a shelf",
        class_word="man",
    ),
)
PARTS = ("body", "background")


@dataclass(frozen=True, slots=True)
class Given:
    """A prompt as one method is given it."""

    general: str
    background: str
    body: str
    trigger_position: int

    @property
    def as_typed(self) -> str:
        """The thesis' form: the trigger behind the class word, parts apart by an empty line."""
        at = self.trigger_position
        general = self.general if at < 0 else f"{self.general[:at]} {TRIGGER}{self.general[at:]}"
        return "\n\n".join(part for part in (general, self.background, self.body) if part)


def prompts_of(settings: EvaluateSettings) -> tuple[EvaluatePrompt, ...]:
    return settings.prompts or THESIS


def given(prompt: EvaluatePrompt, listens_to: Collection[str]) -> Given:
    """Parts that the method does not listen to stay in its general part. Raises InputError for a wrong class word."""
    own = [part for part in PARTS if part in listens_to and getattr(prompt, part)]
    general = prompt.whole
    if own:
        kept = [prompt.general, *(getattr(prompt, part) for part in PARTS if part not in own)]
        general = ", ".join(part for part in kept if part)
    general, position = parse_prompt(general, prompt.class_word)
    parts = {part: str(getattr(prompt, part)) if part in own else "" for part in PARTS}
    return Given(general, parts["background"], parts["body"], position)
