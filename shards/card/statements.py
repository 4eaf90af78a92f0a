"""What is said in words on card and Croissant alike: biases, limits, how photos were found and chosen, removal.

Names no person. Knows nothing of Markdown or JSON-LD.
"""

from __future__ import annotations

from crawl.people.config import TextPeople
from shards.card.facts import Facts

BIASES = (
    "Who is in the dataset is who was asked for, and of them what the sources show: it speaks for no population.",
    "Detectors and embedders err more often on people and conditions that their training photos hold few of, so such "
    "photos are lost more often.",
    "Verification keeps photos that resemble each other: unusual ones (age, make-up, pose) go missing first.",
)
LIMITS = (
    "Who is in a photo was decided by a program; no person looked at every photo.",
    "A copyright licence is not the consent of the person shown. Likeness and data protection law apply to every use.",
    "Not for identifying people, for surveillance, or for pictures of a person that this person would not agree to.",
)
OBEYED = (
    "robots.txt, X-Robots-Tag and meta tags (noai, noimageai, noindex, noimageindex, noml) and TDM-Reservation are "
    "obeyed without exception wherever photos come over the network."
)


def found(facts: Facts) -> str:
    """Who was looked for, and how."""
    listed = facts.run.crawl.people
    sources = ", ".join(sorted({source.source for source in facts.run.crawl.sources}))
    how = "by the folders and rows of the sources" if listed is None else f"by a list ({listed.list})"
    ages = " Nobody's age is known."
    if listed is not None and not isinstance(listed, TextPeople):
        without = " and people without a birth date" if listed.adults_only else ""
        ages = f" Known minors{without} were left out."
    return (
        f"Photos were looked for of {facts.names} people, named {how}, in: {sources}; {facts.people} are in the shards."
        + ages
    )


def chosen(facts: Facts) -> list[str]:
    """What a photo had to pass, a line a step."""
    settings = facts.run.filter
    return [
        f"short side ≥ {settings.min_side_px} px"
        + _optional("; megapixels ≥ {:g}", settings.min_megapixels)
        + _optional("; long side / short side ≤ {:g}", settings.max_aspect_ratio)
        + _optional("; sharpness ≥ {:g}", settings.min_sharpness)
        + _optional("; colourfulness ≥ {:g}", settings.min_colourfulness),
        f"face box ≥ {settings.min_face_px} px, detector score ≥ {facts.min_face_score:g}"
        + _optional("; at most {:g} faces", settings.max_faces),
        f"of a person's near-duplicates (dHash within {settings.near_duplicate_bits} of 64 bits) the largest",
        f"identity by rule `{settings.verify.rule}`: cosine to the person's centre ≥ {facts.threshold:g}, at least "
        f"{settings.verify.min_photos} photos and {settings.verify.min_share:g} of all photos of the name agreeing",
        *(
            f"{c.name} by an image classifier"
            + _optional(": at most {:g}", c.max_probability)
            + _optional(": at least {:g}", c.min_probability)
            for c in settings.classifiers
        ),
        f"square crop about the {'head' if settings.framing == 'portrait' else 'whole body'} with a face of at least "
        f"{settings.min_face_share:g} of its area",
    ]


def _optional(text: str, value: float | None) -> str:
    return "" if value is None else text.format(value)


def removal(facts: Facts) -> str:
    """How to get a photo or a person out."""
    contact = facts.run.publish.contact
    whom = f"ask {contact}" if contact else "ask the publisher of this copy, in the discussions of the dataset's page"
    taken = facts.statuses["removed"]
    so_far = f" Photos taken out so far: {taken}." if taken else ""
    return (
        f"A person shown here, or the owner of a photo, can have photos removed: {whom}. Say which by the photo's URL, "
        f"its sha256, a domain, or the identity key of a sample; no reason is needed. Whatever is taken out is not "
        f"collected again.{so_far}"
    )
