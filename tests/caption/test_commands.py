"""`python -m caption` on a model behind an API: figures, stops that can be resumed, kills, and where the key is not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caption.__main__ import main
from caption.captioned import Caption
from crawl.errors import exit_with_one_line
from crawl.output import Output
from crawl.people.person import Person
from crawl.tables import Entry, Tables
from filter.portrait import Portrait

ROOT = Path(__file__).parents[2]
KEY = "sk-never-to-be-written-anywhere"
COUNT = 12


@pytest.fixture
def dataset(tmp_path, portrait_of, draw, chat_server):
    """A dataset folder with portraits of one person, and a run file that asks the server."""
    output = Output(str(tmp_path / "out"))
    portraits = [portrait_of(draw(clothes=(20 * n, 40, 90)), number=n) for n in range(COUNT)]
    Tables(output).write("crop", 0, Portrait, [Entry(p.key, p) for p in portraits], "f")
    person = Person(portraits[0].identity, "Ada Lovelace", "test", "folder")
    Tables(output).write("people", 0, Person, [Entry(person.identity, person)], "f")
    (tmp_path / "run.yaml").write_text(
        f"output: {output.url}\ncrawl: {{root: .}}\nshards: {{buckets: 1}}\ncaption:\n  backend: endpoint\n"
        "  model: vlm\n  prompt: single\n  batch_size: 2\n"
        f"  endpoint: {{url: '{chat_server.url}', key_env: CAPTION_KEY, concurrency: 2, tries: 1}}\n"
    )
    return output


def arguments(dataset, *words):
    return [sys.executable, "-m", "caption", str(Path(dataset.url).parent / "run.yaml"), *words]


@pytest.fixture
def command(dataset, monkeypatch, capsys):
    """Run the command in this process, which spares seconds a test: (exit code, stdout, stderr)."""

    def run(*words, key=KEY):
        monkeypatch.setattr(sys, "argv", arguments(dataset, *words)[2:])
        monkeypatch.setenv("CAPTION_KEY", key)
        code = exit_with_one_line(main)
        said = capsys.readouterr()
        return subprocess.CompletedProcess([], code, said.out, said.err)

    return run


def captions(dataset):
    return sum(entry.row is not None for entry in Tables(dataset).read("caption", 0, Caption))


def test_the_command_says_what_it_took_and_the_key_is_nowhere(command, dataset, chat_server, good_answer):
    def answer(n, request):
        if n == 1:
            return json.dumps({**good_answer, "body": "Ada Lovelace stands in a coat.", "background": "Dark hair."})
        return "```json\n" + json.dumps(good_answer) + "\n```" if n % 2 else "I am sorry."

    chat_server.behave = answer
    result = command()
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{COUNT} portraits, ")
    assert "sent back for" in result.stdout
    assert "not_json" in result.stdout
    assert "8.3% names_person" in result.stdout
    assert "8.3% face_in_background" in result.stdout
    assert "tokens/s in each worker" in result.stdout
    assert "general" in result.stdout
    files = [path.read_bytes() for path in Path(dataset.url).rglob("*") if path.is_file()]
    assert files
    assert not any(KEY.encode() in content for content in [*files, result.stdout.encode(), result.stderr.encode()])
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in chat_server.headers)
    assert not any(KEY in json.dumps(request) for request in chat_server.requests)


def test_a_key_that_is_not_set_is_one_line(command, dataset, chat_server):
    result = command(key="")
    assert result.returncode == 2
    assert "caption.endpoint.key_env: the environment variable it names is not set: CAPTION_KEY" in result.stderr
    assert "Traceback" not in result.stderr
    assert chat_server.requests == []


def test_a_budget_stops_cleanly_and_nothing_is_paid_for_twice(command, dataset, chat_server):
    result = command("caption.endpoint.max_requests=5")
    assert result.returncode == 2
    assert "all 5 requests are spent; what they brought is kept" in result.stderr
    assert Tables(dataset).fingerprint("caption", 0) is None
    assert len(chat_server.requests) == 5
    assert command("caption.endpoint.max_requests=5").returncode == 2  # an automatic restart costs nothing
    assert len(chat_server.requests) == 5
    result = command("caption.endpoint.max_requests=100")
    assert (result.returncode, captions(dataset)) == (0, COUNT)
    assert len(chat_server.requests) == COUNT


def test_an_outage_is_one_line_and_is_resumed(command, dataset, chat_server, good_answer):
    chat_server.behave = lambda n, request: json.dumps(good_answer) if n <= 4 else (503, {}, "down for maintenance")
    result = command()
    assert result.returncode == 2
    assert "questions in a row got no answer: down for maintenance; what was answered is kept" in result.stderr
    before = len(chat_server.requests)
    chat_server.behave = lambda n, request: json.dumps(good_answer)
    assert command().returncode == 0
    assert captions(dataset) == COUNT
    assert len(chat_server.requests) - before == COUNT - 4


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 8])
def test_a_kill_costs_at_most_the_batches_in_hand(command, dataset, chat_server, after):
    chat_server.behave = lambda n, request: 0.05
    process = subprocess.Popen(
        arguments(dataset), cwd=ROOT, env={**os.environ, "CAPTION_KEY": KEY}, stdout=subprocess.DEVNULL
    )
    while len(chat_server.requests) < after and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Tables(dataset).fingerprint("caption", 0) is None
    time.sleep(0.2)
    result = command()
    assert (result.returncode, captions(dataset)) == (0, COUNT)
    assert COUNT <= len(chat_server.requests) <= COUNT + 4


def test_lost_tables_cost_nothing_and_another_prompt_is_asked_for_again(command, dataset, chat_server):
    assert command().returncode == 0
    table = Path(dataset.url) / "tables" / "caption" / "00000.parquet"
    content = table.read_bytes()
    table.unlink()
    assert command(key="").returncode == 0  # not even the key is needed
    assert table.read_bytes() == content
    assert len(chat_server.requests) == COUNT
    crop = Tables(dataset).fingerprint("crop", 0)
    assert command("caption.prompt=thesis").returncode == 0
    assert len(chat_server.requests) == COUNT + 2 * COUNT
    assert Tables(dataset).fingerprint("crop", 0) == crop
    assert command().returncode == 0  # back again
    assert len(chat_server.requests) == COUNT + 2 * COUNT
    assert table.read_bytes() == content


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("caption.prompt=nothing-7",), "caption.prompt: nothing-7: no such file"),
        (("caption.endpoint.url=null",), "endpoint.url: name the API"),
        (("caption.endpoint.max_request=3",), "did you mean max_requests?"),
        (("caption.backend=qwen", "caption.model=./none-here"), "caption.model: ./none-here: no such folder"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(command, dataset, chat_server, overrides, message):
    result = command(*overrides)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert chat_server.requests == []
