"""`try` and `compare`: the three parts of a photo, and configurations side by side, without a dataset."""

import base64
import html
import io
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image

from caption.__main__ import main
from caption.config import CaptionRun
from caption.trial import portrait_of
from crawl.errors import InputError, exit_with_one_line

HOSTILE = "A photo of a woman <script>alert(1)</script> & 'more'."


@pytest.fixture
def photos(tmp_path, draw):
    """Two drawn photos, wider than high; no detector takes them for faces."""
    paths = []
    for number, colour in enumerate(((40, 120, 60), (90, 90, 160))):
        picture = Image.new("RGB", (400, 256), colour)
        picture.paste(draw(background=colour), (72, 0))
        path = tmp_path / f"photo {number} <&>.jpg"
        picture.save(path, quality=95)
        paths.append(str(path))
    return paths


@pytest.fixture
def run_file(tmp_path, chat_server):
    def write(name="run", **caption):
        endpoint = {"url": chat_server.url, "tries": 1}
        caption = {"backend": "endpoint", "model": "vlm", "prompt": "single", "endpoint": endpoint, **caption}
        filter_ = {"size_px": 128, "min_face_px": 64, "min_side_px": 64}
        document = {"output": str(tmp_path / "never"), "crawl": {"root": "."}, "filter": filter_, "caption": caption}
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(document))
        return str(path)

    return write


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["caption", *words])
        code = exit_with_one_line(main)
        return code, *capsys.readouterr()

    return run


def test_try_prints_the_three_parts(command, run_file, photos, good_answer, tmp_path):
    code, out, _ = command("try", run_file(), *photos)
    assert code == 0
    assert out.count("general      A bright photo of a woman in a park.") == 2
    assert out.count("the trigger goes after character 25") == 2
    assert out.count("the middle: no face found") == 2
    assert "1 replies; 300 + 40 tokens" in out
    assert not (tmp_path / "never").exists()


def test_try_says_why_there_is_no_caption(command, run_file, photos, chat_server):
    chat_server.behave = lambda n, request: "I am sorry."
    code, out, _ = command("try", run_file(), photos[0], "caption.max_attempts=2")
    assert code == 1
    assert "no caption   invalid_caption: no JSON object" in out
    assert "2 replies, sent back for not_json, not_json" in out


def test_try_looks_for_the_name_it_is_told(command, run_file, photos, chat_server, good_answer):
    chat_server.behave = lambda n, request: json.dumps({**good_answer, "body": "Lovelace in a coat."})
    code, out, _ = command("try", run_file(), photos[0], "--name", "Ada Lovelace")
    assert code == 1
    assert "body names the person" in out


def test_a_measured_caption_needs_a_face(command, run_file, photos):
    code, out, _ = command("try", run_file(), photos[0], "caption.backend=measured")
    assert code == 1
    assert "no caption   error: ValueError" in out


@pytest.mark.slow
def test_the_photo_is_cropped_around_its_largest_face(shared, monkeypatch):
    monkeypatch.setenv("PERSONAE_CACHE", str(shared / "models"))
    from filter.models import load_detector

    path = sorted((shared / "photos" / "identities").rglob("*.jpg"))[0]
    settings = {"models": "open", "min_side_px": 200, "min_face_px": 48, "size_px": 128}
    run = CaptionRun.model_validate({"output": "o", "crawl": {"root": "."}, "filter": settings})
    portrait, shown = portrait_of(str(path), run.filter, load_detector(run.filter))
    assert re.fullmatch(r"around a face of \d+ px", shown)
    left, top, right, bottom = portrait.face_xyxy_px
    assert 0 <= left < right <= 128
    assert 0 <= top < bottom <= 128
    assert len(set(portrait.landmarks_px)) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("try", "RUN", "nowhere.jpg"), "nowhere.jpg: cannot be read: No such file"),
        (("try", "RUN", "RUN"), "not a photo that can be used: format"),
        (("try", "RUN", "caption.prompt=single"), "name at least one photo"),
        (("compare", "RUN", "--photos", "x.jpg"), "name another run file"),
        (("compare", "RUN", "gone.yaml", "--photos", "PHOTO"), "gone.yaml: no such config file"),
    ],
)
def test_wrong_arguments_are_one_line(command, run_file, photos, words, message):
    given = {"RUN": run_file(), "PHOTO": photos[0]}
    code, _, err = command(*(given.get(word, word) for word in words))
    assert code == 2
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


class Page(HTMLParser):
    """Tags, links and images of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_compare_writes_one_page_that_needs_nothing(command, run_file, photos, chat_server, good_answer, tmp_path):
    def answer(n, request):
        two_turns = len(request["messages"]) > 2
        return json.dumps({**good_answer, "general": HOSTILE, **({"body": ""} if two_turns else {})})

    chat_server.behave = answer
    one, other = run_file("one"), run_file("other", prompt="thesis", max_attempts=1)
    target = tmp_path / "page.html"
    code, out, _ = command("compare", one, other, "--photos", *photos, "--html", str(target))
    assert (code, out) == (0, f"2 photos, 2 configurations: {target}\n")
    text = target.read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert page.text.count("<script>alert(1)</script>") == 2
    assert page.text.count("body is empty") == 2
    assert html.escape(photos[0]) in text
    assert len(page.sources) == 4
    for source in page.sources:
        jpeg = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
        assert Image.open(io.BytesIO(jpeg)).size == (128, 128)
    assert "http" not in text


def test_a_photo_that_is_none_is_an_input_error(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no photo")
    run = CaptionRun.model_validate({"output": "o", "crawl": {"root": "."}})
    with pytest.raises(InputError, match=r"x\.jpg: not a photo"):
        portrait_of(str(tmp_path / "x.jpg"), run.filter, None)
