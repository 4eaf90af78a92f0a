"""What a measured caption says is in the picture: drawn pictures whose colours are known, and real ones."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from caption.check import faults
from caption.measured import SIDE_PX, MeasuredCaptioner

CAPTIONER = MeasuredCaptioner()
COLOURS = {
    "red": (190, 20, 30), "green": (30, 130, 50), "blue": (30, 70, 190), "black": (12, 12, 14),
    "white": (245, 245, 245), "yellow": (240, 210, 40), "purple": (120, 40, 130), "light blue": (150, 190, 230),
}  # fmt: skip
HUES = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown", "beige")


def caption_of(portrait):
    (caption,) = CAPTIONER.caption([portrait])
    return caption


def swapped(words):
    return words.replace("left", "@").replace("right", "left").replace("@", "right")


def mirrored(portrait):
    with Image.open(io.BytesIO(portrait.image_jpeg)) as image:
        buffer = io.BytesIO()
        ImageOps.mirror(image).save(buffer, "JPEG", quality=95)
    points = tuple(
        (portrait.size_px - portrait.landmarks_px[i][0], portrait.landmarks_px[i][1]) for i in (1, 0, 2, 4, 3)
    )
    return dataclasses.replace(portrait, image_jpeg=buffer.getvalue(), landmarks_px=points)


@pytest.mark.parametrize(("word", "colour"), COLOURS.items())
def test_clothes_have_their_colour(word, colour, draw, portrait_of):
    assert f"wearing mostly {word}" == caption_of(portrait_of(draw(clothes=colour))).body.split(", ")[-1]


@pytest.mark.parametrize(("word", "colour"), COLOURS.items())
def test_a_plain_background_has_its_colour(word, colour, draw, portrait_of):
    background = caption_of(portrait_of(draw(background=colour))).background
    assert background.endswith(f"plain {word} background")


def test_skin_and_hair_are_not_clothes(draw, portrait_of):
    bare = draw(background=(40, 40, 160), clothes=(205, 150, 125))
    assert "wearing" not in caption_of(portrait_of(bare)).body


@pytest.mark.parametrize(
    ("second", "words"), [((245, 245, 245), "mostly blue with some white"), ((250, 150, 185), "mostly blue")]
)
def test_a_second_colour_is_named_unless_it_may_be_skin_or_hair(second, words, draw, portrait_of):
    picture = draw(clothes=COLOURS["blue"])
    picture.paste(second, (48, 215, 208, 242))
    assert caption_of(portrait_of(picture)).body.endswith(f"wearing {words}")


def test_noise_is_busy_and_a_gradient_is_neither(draw, portrait_of):
    specks = np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)
    noise = Image.fromarray(specks).resize((256, 256), Image.Resampling.NEAREST)
    slope = Image.fromarray(np.tile(np.linspace(60, 220, 256).astype(np.uint8)[:, None, None], (1, 256, 3)))
    person = draw(background=(255, 0, 255))
    is_person = Image.fromarray((np.asarray(person) != (255, 0, 255)).any(-1))
    busy, soft = (caption_of(portrait_of(Image.composite(person, b, is_person))).background for b in (noise, slope))
    assert "busy" in busy
    assert "busy" not in soft
    assert "plain" not in soft


def test_a_black_and_white_photo_is_named_so_and_has_no_colours(draw, portrait_of):
    caption = caption_of(portrait_of(ImageOps.grayscale(draw(clothes=(190, 20, 30)))))
    assert "black-and-white photo" in caption.general
    assert caption.body.endswith("wearing grey clothes") or caption.body.endswith("wearing dark clothes")
    assert not set(HUES) & set(f"{caption.background} {caption.body}".split())


@pytest.mark.parametrize(("level", "word"), [(0.15, "dark"), (1.0, None), (3.0, "bright")])
def test_light_is_measured(level, word, draw, portrait_of):
    dimmed = Image.eval(draw(), lambda value: min(255, round(value * level)))
    general = caption_of(portrait_of(dimmed)).general
    assert [w for w in ("dark", "bright") if w in general.replace(",", "").split()] == ([word] if word else [])


@pytest.mark.parametrize(("colour", "word"), [((200, 120, 40), "warm-toned"), ((40, 80, 200), "cool-toned")])
def test_tone_follows_the_background(colour, word, draw, portrait_of):
    assert word in caption_of(portrait_of(draw(background=colour))).general


@pytest.mark.parametrize(("faces", "words"), [(1, "one face"), (2, "two faces"), (10, "ten faces"), (11, "many faces")])
def test_the_faces_of_the_photo_are_counted(faces, words, draw, portrait_of):
    assert caption_of(portrait_of(draw(), faces=faces)).general.endswith(f"with {words} in the picture")


def test_nothing_is_said_of_what_is_out_of_the_frame(draw, portrait_of):
    face_only = draw().crop((88, 60, 168, 140)).resize((256, 256))
    points = tuple(((x - 88) * 3.2, (y - 60) * 3.2) for x, y in portrait_of(draw()).landmarks_px)
    caption = caption_of(portrait_of(face_only, points))
    assert caption.background == ""
    assert caption.body == "extreme close-up, facing the camera"
    assert faults(caption) == []


def test_the_class_word_carries_the_trigger(draw, portrait_of):
    caption = caption_of(portrait_of(draw()))
    assert caption.class_word == "person"
    assert caption.general[: caption.trigger_position].endswith(" person")
    assert caption.made_by == "measured-1"


@pytest.mark.parametrize("side", [SIDE_PX // 2, SIDE_PX, 512, 1024])
def test_the_size_of_the_crop_does_not_matter(side, draw, portrait_of):
    portrait = portrait_of(draw())
    points = tuple((x * side / 256, y * side / 256) for x, y in portrait.landmarks_px)
    resized = portrait_of(draw().resize((side, side), Image.Resampling.LANCZOS), points)
    assert caption_of(dataclasses.replace(resized, size_px=side)) == caption_of(portrait)


def test_a_batch_changes_no_caption(draw, portrait_of):
    portraits = [portrait_of(draw(clothes=colour), number=n) for n, colour in enumerate(COLOURS.values())]
    assert CAPTIONER.caption(portraits) == [caption_of(portrait) for portrait in portraits]


def test_a_crop_that_is_no_image_raises(portrait_of):
    with pytest.raises(OSError, match="cannot identify"):
        CAPTIONER.caption([portrait_of(b"no image")])


def test_captions_of_real_photos_pass_the_check_and_differ(real_portraits):
    captions = CAPTIONER.caption(real_portraits)
    assert [faults(caption) for caption in captions] == [[]] * len(captions)
    assert len({(c.general, c.background, c.body) for c in captions}) > len(captions) / 2
    assert sum("wearing" in c.body for c in captions) > 0.7 * len(captions)


def test_a_mirrored_real_photo_swaps_left_and_right_only(real_portraits):
    turned = 0
    for portrait in real_portraits:
        there, back = caption_of(portrait), caption_of(mirrored(portrait))
        assert swapped(there.body).split(", wearing")[0] == back.body.split(", wearing")[0]
        turned += "left" in there.body or "right" in there.body
    assert turned >= 3


def test_a_real_photo_without_colour_is_black_and_white(real_portraits):
    for portrait in real_portraits[::4]:
        with Image.open(io.BytesIO(portrait.image_jpeg)) as image:
            buffer = io.BytesIO()
            ImageOps.grayscale(image).convert("RGB").save(buffer, "JPEG", quality=95)
        grey = caption_of(dataclasses.replace(portrait, image_jpeg=buffer.getvalue()))
        assert "black-and-white" in grey.general
        assert "black-and-white" not in caption_of(portrait).general
        assert not set(HUES) & set(f"{grey.background} {grey.body}".replace(",", "").split())
