"""Sending to a Hub on loopback that speaks the calls the client makes: interrupted, killed, refused, resumed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi

from crawl.errors import InputError
from shards.publish.hub import send

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub 2.4 on httpx2
ROOT = Path(__file__).parents[3]


def test_all_files_arrive_the_card_last_and_the_version_is_tagged(hub, staged, publish):
    sent = publish(files_a_commit=2)
    assert (sent.files, sent.there, sent.removed) == (len(staged.files), 0, 0)
    assert sent.num_bytes == sum(staged.files.values())
    assert hub.holds(staged)
    repo = hub.repos["me/mine"]
    assert not repo.private
    assert repo.tags == {"v1.0.0": len(repo.commits) - 1}
    assert sent.commits == len(repo.commits) - 1 == -(-len(staged.facts.shards) // 2) + 1
    assert all("README.md" not in tree and "shards/index.json" not in tree for tree in repo.commits[:-1])
    large = [path for path in staged.files if path.endswith(".tar")]
    assert any(staged.files[path] > hub.part_bytes for path in large)  # several parts


def test_a_second_time_sends_nothing_at_all(hub, staged, publish):
    publish()
    hub.log.clear()
    again = publish()
    assert (again.files, again.there, again.commits) == (0, len(staged.files), 0)
    assert not hub.sent()
    assert hub.posted("commit") == hub.posted("tag") == 0


def test_a_failure_in_the_middle_is_one_line_and_the_same_call_goes_on(hub, staged, publish):
    last = staged.facts.shards[-1].sha256
    hub.refuse = lambda method, path: 507 if method == "PUT" and last in path else None
    with pytest.raises(InputError, match=r"^me/mine: the Hub answered 507.*; the same command goes on where"):
        publish(files_a_commit=2)
    arrived = {oid for oid in hub.sent() if oid != last}
    assert arrived
    assert not hub.repos["me/mine"].tags
    hub.refuse = None
    hub.log.clear()
    sent = publish(files_a_commit=2)
    assert not arrived & set(hub.sent())
    assert last in hub.sent()
    assert sent.there >= 2  # what the first commit had
    assert hub.holds(staged)
    assert "v1.0.0" in hub.repos["me/mine"].tags


@pytest.mark.slow
def test_a_killed_upload_goes_on_without_sending_what_is_there(hub, staged, finished_dataset, tmp_path):
    """The Hub holds the last shard's answer back until the client is dead."""
    last = staged.facts.shards[-1].sha256
    waiting, dead = threading.Event(), threading.Event()

    def hold(method, path):
        if method != "PUT" or last not in path:
            return None
        waiting.set()
        dead.wait(60)
        return 500

    hub.refuse = hold
    command = [sys.executable, "-m", "shards", "publish", finished_dataset.url, "me/mine", "--yes"]
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    others = {shard.sha256 for shard in staged.facts.shards[:-1]}
    with contextlib.closing(process.stdout):
        assert waiting.wait(60)
        deadline = time.monotonic() + 20
        while not others <= set(hub.objects) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.wait()
    dead.set()
    hub.refuse = None
    assert others <= set(hub.objects)
    assert hub.repos["me/mine"].commits == [{}]
    hub.log.clear()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "tagged v1.0.0" in done.stdout
    assert not others & set(hub.sent())
    assert hub.holds(staged)
    assert hub.token not in done.stdout + done.stderr


def test_a_later_version_sends_what_changed_and_removes_what_is_gone(hub, staged, publish):
    publish()
    repo = hub.repos["me/mine"]
    repo.commits[-1]["notes.txt"] = {"oid": "0" * 40, "size": 3}
    repo.commits[-1]["shards/00009-000.tar"] = {"oid": "0" * 40, "size": 3}
    (staged.folder / "README.md").write_text((staged.folder / "README.md").read_text() + "\n")
    hub.log.clear()
    files = {path: (staged.folder / path).stat().st_size for path in staged.files}
    sent = publish(tag="v1.1.0", files=files)
    assert (sent.files, sent.removed, sent.commits) == (1, 1, 1)
    assert not hub.sent()
    assert "shards/00009-000.tar" not in repo.commits[-1]
    assert hub.holds(staged, without=("notes.txt",))
    assert repo.tags == {"v1.0.0": 2, "v1.1.0": 3}


def test_a_tag_that_means_other_content_stops_before_anything_is_sent(hub, staged, publish):
    publish()
    (staged.folder / "README.md").write_text("other words")
    hub.log.clear()
    with pytest.raises(InputError, match=r"^me/mine: v1\.0\.0 is there already, with other content: raise pub"):
        publish()
    assert not hub.sent()
    assert hub.posted("commit") == 0


def test_a_branch_of_its_own_and_a_private_repository(hub, staged, publish):
    publish(revision="next", private=True)
    assert hub.repos["me/mine"].private
    assert hub.holds(staged, branch="next")
    assert hub.repos["me/mine"].branches["main"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token": "hf_wrong"}, "me/mine: the Hub does not accept this token (HF_TOKEN, or `hf auth login`)"),
        ({"repo": "other/theirs"}, "other/theirs: this token may not write there (You don't have the rights"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, publish, options, said):
    with pytest.raises(InputError) as error:
        publish(**options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "hf_" not in str(error.value).replace("hf_token", "")
    assert not hub.sent()


def test_no_token_is_one_line(publish, monkeypatch):
    monkeypatch.setattr(huggingface_hub.hf_api, "get_token", lambda: None)
    with pytest.raises(InputError, match=r"^no token: set HF_TOKEN, or log in once"):
        publish(token=None)


def test_a_hub_out_of_reach_is_one_line(hub, staged):
    api = HfApi(endpoint="http://127.0.0.1:9", token=hub.token)
    with pytest.raises(InputError, match=r"^me/mine: the upload stopped: .*; the same command goes on") as error:
        send(staged.folder, staged.files, "me/mine", "v1.0.0", api)
    assert hub.token not in str(error.value)
    huggingface_hub.close_session()
