"""Lists of words that the check of captions looks for. Lower case, English unless they say otherwise."""

from __future__ import annotations


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


CLASS_WORDS = ("man", "woman", "person")
"""What a person may be called where the trigger goes: one CLIP token each, and every adapter knows them."""

FACE_WORDS = _words(
    "beard bearded beards brow brows cheek cheekbone cheekbones cheeks chin chins complexion dimple dimples ear ears",
    "eye eyebrow eyebrows eyed eyelash eyelashes eyelids eyes face faced faces facial forehead freckled freckles frown",
    "frowning gaze gazing grin grinning hair haired hairline hairstyle jaw jawline lip lips lipstick makeup moustache",
    "mouth mustache nose nostrils skin smile smiles smiling stubble teeth wrinkles",
)
"""Words that describe a face or head, which `background` must not hold."""

ORDINARY_NAMES = _words(
    "amber angel april august autumn baker banks bell berry bird bishop black blue bridge brook brooks brown bush",
    "camera carpenter chance church close coat cook cross dawn day dean diamond drew faith field fields fisher ford",
    "forest fox frank garland glass gold grace grant gray green grey hall hand head heart heath hill holly hope",
    "hunt hunter iris ivory ivy jack jade jasmine jean jewel joy judge june king knight lake lane light lily little",
    "long love major man mark may miles moon page park parks pearl person photo pink pool pope porter pretty price",
    "prince queen raven ray red reed rich rivers robin rock rose ruby rush sage sailor sandy savage sharp short",
    "silver singer sky small snow spears star stone storm strong summer sun swift taylor turner walker ward waters",
    "west white will winter wise wolf woman wood woods young",
)
"""Names that are English words too: they count only when written as a name inside a sentence."""

NAME_PARTICLES = _words("and bin dal das del della der des dos ibn las los san the van von")
"""Parts of names that say nothing of whose name it is."""

FOREIGN_WORDS = _words(
    "aber auf avec dans della dem eine einem einen einer elle est et gli hombre homem homme ist mann mit mujer nella",
    "nicht por qui sich sobre sur uma un una und une uno uomo",
)
"""Words of other languages in Latin script, of which no English sentence holds two."""
