"""CelebA as its authors pack it: every line and every file is accounted for, and nothing outside the folder is read."""

import os

import pytest

from crawl.errors import InputError
from crawl.source_config import CelebaSettings
from crawl.sources import celeba, folder
from crawl.sources.celeba import CelebaSource

MB = 2**20
LINES = "000001.jpg 2880\n000002.jpg 2937\n000003.jpg 2880\n"


@pytest.fixture
def root(tmp_path):
    """Three images of two people, in the wild and aligned."""
    for name, kind in (("img_celeba", "jpg"), ("img_align_celeba", "jpg"), ("img_align_celeba_png", "png")):
        for number in (1, 2, 3):
            write(tmp_path / name / f"{number:06}.{kind}", f"{name} {number}".encode())
    write(tmp_path / "identity_CelebA.txt", LINES.encode())
    return tmp_path


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def source(root, **options):
    return CelebaSource(CelebaSettings(source="celeba", root=str(root), **options))


def contents(celeba_source):
    """name → source → bytes or Rejection."""
    return {
        name: {found.source: celeba_source.read(found, MB) for found in celeba_source.find(name)}
        for name in celeba_source.people()
    }


@pytest.mark.parametrize(
    ("variant", "name", "kind"),
    [
        ("in_the_wild", "img_celeba", "jpg"),
        ("aligned", "img_align_celeba", "jpg"),
        ("aligned_png", "img_align_celeba_png", "png"),
    ],
)
def test_people_and_their_images(root, variant, name, kind):
    found = source(root, variant=variant)
    assert contents(found) == {
        "CelebA 2880": {f"000001.{kind}": f"{name} 1".encode(), f"000003.{kind}": f"{name} 3".encode()},
        "CelebA 2937": {f"000002.{kind}": f"{name} 2".encode()},
    }
    assert list(found.strays()) == []


def test_size_and_time_are_those_of_the_file(root):
    os.utime(root / "img_celeba" / "000002.jpg", ns=(5, 1_234_567_890_123_456_789))
    (found,) = source(root).find("CelebA 2937")
    assert (found.name, found.num_bytes, found.modified_ns, found.refused) == (
        "CelebA 2937", 12, 1_234_567_890_123_456_789, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("identities", "images"),
    [
        ("Anno/identity_CelebA.txt", "Img/img_celeba"),
        ("CelebA/Anno/identity_CelebA.txt", "CelebA/Img/img_celeba"),
        ("identity_CelebA.txt", "img_celeba/img_celeba"),
    ],
)
def test_where_the_archives_put_things(tmp_path, identities, images):
    write(tmp_path / identities, b"000001.jpg 5\r\n")
    write(tmp_path / images / "000001.jpg", b"photo")
    assert contents(source(tmp_path)) == {"CelebA 5": {"000001.jpg": b"photo"}}


def test_an_image_folder_may_be_a_link(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk")
    os.rename(root / "img_celeba", elsewhere / "img_celeba")
    os.symlink(elsewhere / "img_celeba", root / "img_celeba")
    assert contents(source(root))["CelebA 2937"] == {"000002.jpg": b"img_celeba 2"}


def test_missing_files_are_named(root):
    os.unlink(root / "img_celeba" / "000003.jpg")
    refused = {f.source: f.refused for f in source(root).find("CelebA 2880")}
    assert refused == {"000001.jpg": None, "000003.jpg": "not_there"}
    (missing,) = (f for f in source(root).find("CelebA 2880") if f.refused)
    assert (missing.name, missing.num_bytes, missing.modified_ns) == ("CelebA 2880", 0, 0)
    assert source(root).read(missing, MB).reason == "not_there"


def test_malformed_lines_are_named_by_number_and_never_opened(root):
    write(
        root / "identity_CelebA.txt",
        b"000001.jpg 2880\n"
        b"\n"
        b"000002.jpg\n"
        b"000002.jpg x\n"
        b"000002.jpg 1 2\n"
        b"../identity_CelebA.txt 3\n"
        b"/etc/passwd 3\n"
        b".hidden 3\n"
        b"caf\xe9.jpg 3\n"
        b"000001.jpg 2880\n"
        b"000001.jpg 7\n"
        b"000003.jpg\t0002880",
    )
    found = source(root)
    assert {name: [f.source for f in found.find(name)] for name in found.people()} == {
        "CelebA 2880": ["000001.jpg", "000003.jpg"]
    }
    lines = [(f.source, f.refused, f.name) for f in found.strays() if f.source.startswith("identity")]
    assert lines == [
        *((f"identity_CelebA.txt: line {number}", "malformed_line", "") for number in (3, 4, 5, 6, 7, 8, 9)),
        ("identity_CelebA.txt: line 10", "named_again", ""),
        ("identity_CelebA.txt: line 11", "named_again", ""),
    ]
    assert all(found.read(f, MB).reason == f.refused for f in found.strays())


def test_files_that_no_line_names_are_listed(root):
    write(root / "img_celeba" / "000009.jpg", b"who?")
    (root / "img_celeba" / "folder").mkdir()
    assert [(f.source, f.refused) for f in source(root).strays()] == [
        ("000009.jpg", "no_identity"), ("folder", "no_identity"),
    ]  # fmt: skip


def test_what_is_no_regular_file_inside_is_refused(root):
    images = root / "img_celeba"
    write(root / "secret.jpg", b"secret")
    for number in (1, 2, 3):
        os.unlink(images / f"{number:06}.jpg")
    os.symlink(root / "secret.jpg", images / "000001.jpg")
    (images / "000002.jpg").mkdir()
    os.mkfifo(images / "000003.jpg")
    refused = {f.source: f.refused for name in ("CelebA 2880", "CelebA 2937") for f in source(root).find(name)}
    assert refused == {"000001.jpg": "unsafe_link", "000002.jpg/": "not_a_file", "000003.jpg": "not_a_file"}


def test_too_large_is_not_read(root):
    (found,) = source(root).find("CelebA 2937")
    assert source(root).read(found, 3).reason == "too_large"


def test_reasons_are_documented(root):
    write(root / "identity_CelebA.txt", LINES.encode() + b"junk\n000001.jpg 1\n000008.jpg 2880\n")
    write(root / "img_celeba" / "odd.txt", b"")
    found = source(root)
    refused = {f.refused for f in [*found.strays(), *found.find("CelebA 2880")]} - {None}
    assert refused == set(celeba.REASONS)
    assert not refused & set(folder.REASONS)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("identity_CelebA.txt", r"^crawl\.root: .*: no identity_CelebA\.txt in it, nor in Anno/$"),
        ("img_celeba", r"^crawl\.root: .*: no folder img_celeba in it, nor in Img/$"),
    ],
)
def test_what_is_missing_is_one_line(root, gone, message):
    os.rename(root / gone, root / "elsewhere")
    with pytest.raises(InputError, match=message):
        source(root)


def test_a_file_that_names_nothing(root):
    write(root / "identity_CelebA.txt", b"nothing here\n")
    with pytest.raises(InputError, match=r"identity_CelebA\.txt names no image"):
        source(root)
