"""Whatever lies in the root is found, named so that it can be told apart, and opened only if it is a file."""

import os
import pickle
import socket
import tempfile
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl.errors import InputError, one_line
from crawl.photo import Rejection
from crawl.sources.folder import FolderSource, printable

MB = 2**20


@pytest.fixture
def root(tmp_path):
    """A root with one ordinary person."""
    folder = tmp_path / "root"
    write(folder / "Ada" / "1.jpg", b"first")
    return folder


def write(path, content=b"bytes"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(root, name="Ada"):
    """source → Found."""
    return {f.source: f for f in FolderSource(str(root)).find(name)}


def refusals(root, name="Ada"):
    return {source: f.refused for source, f in found(root, name).items()}


def read(root, source, max_bytes=MB, name="Ada"):
    return FolderSource(str(root)).read(found(root, name)[source], max_bytes)


def test_people_and_their_files(root):
    write(root / "Ada" / "trip" / "2.png", b"second!")
    write(root / "Bob" / "3.jpg")
    os.utime(root / "Ada" / "1.jpg", ns=(5, 1_234_567_890_123_456_789))
    source = FolderSource(str(root))
    assert source.people() == ["Ada", "Bob"]
    first, second = source.find("Ada")
    assert (first.name, first.source, first.num_bytes, first.modified_ns, first.refused) == (
        "Ada",
        "Ada/1.jpg",
        5,
        1_234_567_890_123_456_789,
        None,
    )
    assert (second.source, second.num_bytes) == ("Ada/trip/2.png", 7)
    assert source.read(first, MB) == b"first"
    assert source.read(second, MB) == b"second!"
    assert list(source.strays()) == []


def test_files_come_in_the_order_of_their_bytes(root):
    for name in ("b.jpg", "B.jpg", "é.jpg", "10.jpg", "9.jpg", "b/1.jpg", "b-c.jpg", "\U0001f600.jpg", "￿.jpg"):
        write(root / "Ada" / name)
    sources = [f.source for f in FolderSource(str(root)).find("Ada")]
    assert sources == sorted(sources, key=str.encode)
    assert len(sources) == 10


def test_a_source_travels_between_processes(root):
    source = pickle.loads(pickle.dumps(FolderSource(str(root))))
    assert [source.read(f, MB) for f in source.find("Ada")] == [b"first"]


@pytest.mark.parametrize("trailing", ["", "/", "/.", "/../root"])
def test_the_spelling_of_the_root_makes_no_difference(root, trailing):
    assert list(found(f"{root}{trailing}")) == ["Ada/1.jpg"]


def test_a_linked_root_is_the_folder_it_leads_to(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert list(found(tmp_path / "link")) == ["Ada/1.jpg"]


def test_one_name_spelt_in_two_ways_is_one_person(root):
    nfc, nfd = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    write(root / nfc / "1.jpg")
    write(root / nfd / "1.jpg")
    source = FolderSource(str(root))
    assert source.people() == ["Ada", nfc]
    files = list(source.find(nfc))
    assert {f.name for f in files} == {nfc}
    assert {f.source for f in files} == {f"{nfc}/1.jpg", f"{nfd}/1.jpg"}


def test_a_person_without_files_is_still_a_person(root):
    (root / "Nobody" / "nothing").mkdir(parents=True)
    source = FolderSource(str(root))
    assert source.people() == ["Ada", "Nobody"]
    assert list(source.find("Nobody")) == []


def test_hidden_and_foreign_files_are_found_like_the_others(root):
    for name in (".DS_Store", "Thumbs.db", ".hidden/1.jpg", "notes.txt", "x.jpg/inside.jpg"):
        write(root / "Ada" / name)
    assert refusals(root) == dict.fromkeys(
        ["Ada/.DS_Store", "Ada/.hidden/1.jpg", "Ada/1.jpg", "Ada/Thumbs.db", "Ada/notes.txt", "Ada/x.jpg/inside.jpg"]
    )


def test_files_of_nobody_are_strays(root):
    write(root / "readme.txt")
    write(root / ".DS_Store")
    os.mkfifo(root / "pipe")
    (root / "Eve").symlink_to(root / "Ada")
    source = FolderSource(str(root))
    strays = list(source.strays())
    assert [(f.name, f.source, f.refused) for f in strays] == [
        ("", ".DS_Store", "no_person_folder"),
        ("", "Eve", "linked_folder"),
        ("", "pipe", "not_a_file"),
        ("", "readme.txt", "no_person_folder"),
    ]
    assert [source.read(f, MB).reason for f in strays] == [f.refused for f in strays]
    assert source.people() == ["Ada"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"new\nline.jpg", "new\\x0aline.jpg"),
        (b"tab\tcr\r.jpg", "tab\\x09cr\\x0d.jpg"),
        (b"esc\x1b[31m.jpg", "esc\\x1b[31m.jpg"),
        (b"latin\xe9.jpg", "latin\\xe9.jpg"),
        (b"cut\xf0\x9f.jpg", "cut\\xf0\\x9f.jpg"),
        (b"back\\slash.jpg", "back\\\\slash.jpg"),
        (b"back\\x0aslash.jpg", "back\\\\x0aslash.jpg"),
        ("c1\x85.jpg".encode(), "c1\\u0085.jpg"),
        ("line\u2028.jpg".encode(), "line\\u2028.jpg"),
        ("gpj\u202e.exe".encode(), "gpj\\u202e.exe"),
        (b"quote'\"`$(touch x);|&*?.jpg", "quote'\"`$(touch x);|&*?.jpg"),
        (b"-rf", "-rf"),
        (b" ", " "),
        ("日本語 é 👩\u200d🔬.jpg".encode(), "日本語 é 👩\u200d🔬.jpg"),
        (b"x" * 255, "x" * 255),
    ],
)
def test_odd_names(name, shown, root):
    with suppress(FileExistsError):
        os.mkdir(os.fsencode(root) + b"/" + name)
    for place in (b"Ada", name):
        with open(os.path.join(os.fsencode(root), place, name), "wb") as file:
            file.write(b"odd")
    source = FolderSource(str(root))
    assert source.people() == sorted(["Ada", shown])
    (theirs,) = source.find(shown)
    assert theirs.name == shown
    assert theirs.source == f"{shown}/{shown}"
    assert source.read(theirs, MB) == b"odd"
    assert read(root, f"Ada/{shown}") == b"odd"
    theirs.source.encode()  # valid text


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(min_size=1, max_size=12).filter(lambda b: b"\0" not in b), unique=True, min_size=2))
def test_different_paths_are_never_shown_alike(names):
    shown = [printable(os.fsdecode(name)) for name in names]
    assert len(set(shown)) == len(names)
    assert all("\n" not in s and s.encode() for s in shown)


def test_deep_trees(root):
    deep = root / "Ada"
    for level in range(300):
        deep = deep / f"level{level}"
    write(deep / "deep.jpg", b"deep")
    (source,) = (s for s in found(root) if s.endswith("deep.jpg"))
    assert source.count("/") == 301
    assert read(root, source) == b"deep"


def test_trees_deeper_than_a_path_can_say(root):
    """One entry for the folder that could not be opened, nothing lost in silence; the rest is found."""
    here = os.open(root / "Ada", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("unreachable.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    listed = refusals(root)
    (deep,) = (s for s in listed if s.startswith("Ada/ddd"))
    assert listed == {"Ada/1.jpg": None, deep: "path_too_long"}
    assert read(root, deep) == Rejection("crawl", "path_too_long")


def test_pipes_sockets_and_devices_are_never_opened(root):
    """Opening the pipe would wait for ever for its other end."""
    os.mkfifo(root / "Ada" / "pipe.jpg")
    (root / "Ada" / "link to pipe.jpg").symlink_to("pipe.jpg")
    expected = {"Ada/1.jpg": None, "Ada/pipe.jpg": "not_a_file", "Ada/link to pipe.jpg": "not_a_file"}
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(root / "Ada", os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/s.jpg")
        os.close(here)
        expected["Ada/s.jpg"] = "not_a_file"
        with suppress(PermissionError):  # takes root
            os.mknod(root / "Ada" / "null.jpg", 0o20666, os.makedev(1, 3))
            expected["Ada/null.jpg"] = "not_a_file"
        assert refusals(root) == expected
        for source in expected.keys() - {"Ada/1.jpg"}:
            assert read(root, source) == Rejection("crawl", "not_a_file")


def test_a_file_swapped_for_a_pipe_is_not_waited_for(root):
    source = FolderSource(str(root))
    (file,) = source.find("Ada")
    (root / "Ada" / "1.jpg").unlink()
    os.mkfifo(root / "Ada" / "1.jpg")
    assert source.read(file, MB) == Rejection("crawl", "not_a_file")


def test_links(root, tmp_path):
    secret = write(tmp_path / "secret.jpg", b"secret")
    write(tmp_path / "root-of-another" / "x.jpg")
    ada = root / "Ada"
    write(root / "Bob" / "b.jpg", b"bob's")
    (ada / "beside.jpg").symlink_to("1.jpg")
    (ada / "other person.jpg").symlink_to(root / "Bob" / "b.jpg")
    (ada / "twice.jpg").symlink_to("beside.jpg")
    (ada / "outside.jpg").symlink_to(secret)
    (ada / "outside by dots.jpg").symlink_to("../../secret.jpg")
    (ada / "same beginning.jpg").symlink_to(tmp_path / "root-of-another" / "x.jpg")
    (ada / "passwords").symlink_to("/etc/passwd")
    (ada / "outside folder").symlink_to(tmp_path)
    (ada / "nothing.jpg").symlink_to("not there.jpg")
    (ada / "through a file.jpg").symlink_to("1.jpg/x.jpg")
    (ada / "self.jpg").symlink_to("self.jpg")
    (ada / "a").symlink_to("b")
    (ada / "b").symlink_to("a")
    (ada / "up").symlink_to("..")
    (ada / "folder").symlink_to(root / "Bob")
    assert refusals(root) == {
        "Ada/1.jpg": None,
        "Ada/beside.jpg": None,
        "Ada/other person.jpg": None,
        "Ada/twice.jpg": None,
        "Ada/outside.jpg": "unsafe_link",
        "Ada/outside by dots.jpg": "unsafe_link",
        "Ada/same beginning.jpg": "unsafe_link",
        "Ada/passwords": "unsafe_link",
        "Ada/outside folder": "unsafe_link",
        "Ada/nothing.jpg": "dangling_link",
        "Ada/through a file.jpg": "dangling_link",
        "Ada/self.jpg": "dangling_link",
        "Ada/a": "dangling_link",
        "Ada/b": "dangling_link",
        "Ada/up": "linked_folder",
        "Ada/folder": "linked_folder",
    }
    assert found(root)["Ada/other person.jpg"].num_bytes == 5
    assert read(root, "Ada/other person.jpg") == b"bob's"
    assert read(root, "Ada/twice.jpg") == b"first"
    assert read(root, "Ada/outside.jpg") == Rejection("crawl", "unsafe_link")


def test_a_file_or_folder_swapped_for_a_link_is_not_followed(root, tmp_path):
    write(tmp_path / "elsewhere" / "1.jpg", b"secret")
    source = FolderSource(str(root))
    (file,) = source.find("Ada")
    (root / "Ada" / "1.jpg").unlink()
    (root / "Ada" / "1.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    assert source.read(file, MB) == Rejection("crawl", "unsafe_link")
    (root / "Ada" / "1.jpg").unlink()
    (root / "Ada").rmdir()
    (root / "Ada").symlink_to(tmp_path / "elsewhere")
    assert source.read(file, MB) == Rejection("crawl", "unsafe_link")


def test_sizes(root):
    write(root / "Ada" / "empty.jpg", b"")
    with (root / "Ada" / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)
    assert found(root)["Ada/huge.jpg"].num_bytes == 1 << 40
    assert read(root, "Ada/huge.jpg") == Rejection("crawl", "too_large", 1 << 40, MB)
    assert read(root, "Ada/empty.jpg") == Rejection("crawl", "empty")
    assert read(root, "Ada/1.jpg", max_bytes=5) == b"first"
    assert read(root, "Ada/1.jpg", max_bytes=4) == Rejection("crawl", "too_large", 5, 4)


def test_what_grew_since_it_was_found_is_measured_again(root):
    source = FolderSource(str(root))
    (file,) = source.find("Ada")
    write(root / "Ada" / "1.jpg", b"x" * 100)
    assert source.read(file, 99) == Rejection("crawl", "too_large", 100, 99)
    assert source.read(file, 100) == b"x" * 100


def test_what_vanished(root):
    write(root / "Ada" / "trip" / "2.jpg")
    source = FolderSource(str(root))
    first, second = source.find("Ada")
    (root / "Ada" / "1.jpg").unlink()
    assert source.read(first, MB) == Rejection("crawl", "vanished")
    (root / "Ada" / "trip").rename(root / "Ada" / "journey")
    assert source.read(second, MB) == Rejection("crawl", "vanished")
    (root / "Ada").rename(root / "Eve")
    assert [(f.source, f.refused) for f in source.find("Ada")] == [("Ada/", "vanished")]


def test_reading_leaves_no_descriptor_open(root):
    write(root / "Ada" / "empty.jpg", b"")
    os.mkfifo(root / "Ada" / "pipe")
    source = FolderSource(str(root))
    before = len(os.listdir("/proc/self/fd"))
    for file in source.find("Ada"):
        source.read(file, 4)
    assert len(os.listdir("/proc/self/fd")) == before


@contextmanager
def nobody():
    """Rights as any user has them, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that any user may look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_may_not_be_read(open_folder):
    root = open_folder
    write(root / "Ada" / "1.jpg")
    write(root / "Ada" / "closed.jpg").chmod(0)
    write(root / "Ada" / "closed" / "2.jpg")
    write(root / "Ada" / "names only" / "3.jpg")
    write(root / "Bob" / "4.jpg")
    (root / "Ada" / "closed").chmod(0)
    (root / "Ada" / "names only").chmod(0o744)
    (root / "Bob").chmod(0)
    try:
        with nobody():
            source = FolderSource(str(root))
            listed = {f.source: f for name in source.people() for f in source.find(name)}
            reasons = {s: r.reason for s, f in listed.items() if isinstance(r := source.read(f, MB), Rejection)}
    finally:
        for folder in (root / "Ada" / "closed", root / "Ada" / "names only", root / "Bob"):
            folder.chmod(0o755)
    refused = dict.fromkeys(["Ada/closed/", "Ada/names only/3.jpg", "Bob/"], "unreadable")
    if os.geteuid() != 0:  # the owner's own rights decide for whom they are taken from
        refused.pop("Ada/names only/3.jpg")
    assert {s: f.refused for s, f in listed.items() if f.refused} == refused
    assert reasons == refused | {"Ada/closed.jpg": "unreadable"}


def test_a_root_that_may_not_be_read(open_folder):
    write(open_folder / "closed" / "Ada" / "1.jpg")
    (open_folder / "closed").chmod(0)
    try:
        with nobody(), pytest.raises(InputError, match=r"^crawl\.root: .*/closed: cannot be read: Permission denied$"):
            FolderSource(str(open_folder / "closed"))
    finally:
        (open_folder / "closed").chmod(0o755)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such folder"),
        (lambda p: write(p), "not a folder"),
        (lambda p: p.symlink_to(p.parent / "gone"), "no such folder"),
        (lambda p: p.mkdir(), "no file in it"),
        (lambda p: (p / "Ada" / "trip").mkdir(parents=True), "no file in it"),
        (lambda p: write(p / "1.jpg"), "no file in any sub-folder; photos are expected in PERSON/"),
        (lambda p: (p.mkdir(), (p / "Ada").symlink_to(p.parent)), "links to folders don't count"),
    ],
)
@pytest.mark.parametrize("name", ["photos", "ph\notos"])
def test_a_wrong_root_is_one_line_that_names_it(make, message, name, tmp_path):
    make(tmp_path / name)
    with pytest.raises(InputError) as error:
        FolderSource(str(tmp_path / name))
    text = str(error.value)
    assert text.startswith(f"crawl.root: {printable(str(tmp_path / name))}: ")
    assert message in text
    assert one_line(error.value) == text


@pytest.mark.parametrize("root", ["", "a\0b", "x" * 5000])
def test_a_root_that_no_folder_can_have(root):
    with pytest.raises(InputError, match=r"^crawl\.root: [^\n]*$"):
        FolderSource(root)
