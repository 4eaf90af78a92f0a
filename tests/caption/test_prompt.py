"""Prompt files: the shipped ones can be used, versions are told apart, and a faulty file is one clear line."""

import pytest

from caption.answer import KEYS
from caption.prompt import load_prompt, shipped
from caption.words import CLASS_WORDS
from crawl.errors import InputError

FILE = "# note\n[system]\nBe plain.\n\n[ask]\nDescribe.\n\nIn English.\n[ask]\nDivide.\n[again]\nWrong:\n$faults\n"


@pytest.mark.parametrize("name", ["thesis-1", "single-1"])
def test_shipped_prompts_tell_the_model_what_is_checked(name):
    prompt = load_prompt(name)
    asked = prompt.asks[-1]
    assert prompt.version.startswith(f"{name}#")
    assert all(f'"{key}"' in asked for key in KEYS)
    assert all(word in asked for word in CLASS_WORDS)
    assert "JSON" in asked
    assert "exactly once" in asked


def test_thesis_takes_two_turns_and_single_one():
    assert [len(load_prompt(name).asks) for name in ("thesis", "single")] == [2, 1]


def test_a_family_means_its_newest_version():
    assert set(shipped()) >= {"thesis-1", "single-1"}
    assert load_prompt("thesis") == load_prompt([name for name in shipped() if name.startswith("thesis")][-1])


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(FILE)
    prompt = load_prompt(str(path))
    assert (prompt.system, prompt.asks) == ("Be plain.", ("Describe.\n\nIn English.", "Divide."))
    assert prompt.again_with(["body is empty", "too long"]) == "Wrong:\n- body is empty\n- too long"
    assert prompt.version.startswith("mine#")
    assert str(tmp_path) not in prompt.version


def test_another_text_is_another_version(tmp_path):
    versions = set()
    for number, text in enumerate((FILE, FILE.replace("plain", "brief"), FILE.replace("# note", "# other note"))):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "mine.txt").write_text(text)
        versions.add(load_prompt(str(tmp_path / str(number) / "mine.txt")).version)
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[ask]\nx\n[again]\nno place", r"\[again\] does not hold \$faults"),
        ("[ask]\nx\n", "expected one .ask. or more, one .again."),
        ("[again]\n$faults\n", "expected one .ask. or more"),
        ("[ask]\n\n[again]\n$faults\n", r"\[ask\] is empty"),
        ("[asks]\nx\n[again]\n$faults\n", r"unknown heading \[asks\]"),
        ("hello\n[ask]\nx\n[again]\n$faults\n", "text before the first heading"),
    ],
)
def test_a_faulty_file_is_named(tmp_path, text, message):
    path = tmp_path / "p.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_prompt(str(path))
    assert "caption.prompt" in str(error.value)


def test_no_such_prompt_lists_those_there_are():
    with pytest.raises(InputError, match=r"caption.prompt: these: no such file.*single-1, thesis-1"):
        load_prompt("these")
