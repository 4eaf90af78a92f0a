import os
import subprocess
import sys

import pytest

from crawl.fetching.journal import Journal, read_journal


def test_lines_are_there_at_once_and_in_order(tmp_path):
    path = str(tmp_path / "a.journal")
    assert list(read_journal(path)) == []
    journal = Journal(path)
    for number in range(3):
        journal.append({"n": number, "text": "Zoë\n\ud800"})
        assert [record["n"] for record in read_journal(path)] == list(range(number + 1))
    journal.close()


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_torn_line_is_skipped_and_the_next_one_is_whole(tmp_path, cut):
    path = str(tmp_path / "a.journal")
    journal = Journal(path)
    journal.append({"n": 1})
    journal.append({"n": 22222})
    journal.close()
    os.truncate(path, os.path.getsize(path) - cut)
    journal = Journal(path)
    journal.append({"n": 3})
    journal.close()
    whole = [1, 22222, 3] if cut == 1 else [1, 3]
    assert [record["n"] for record in read_journal(path)] == whole


def test_one_process_at_a_time(tmp_path):
    path = str(tmp_path / "a.journal")
    journal = Journal(path)
    code = f"from crawl.fetching.journal import Journal; Journal({path!r}).append({{'who': 'other'}})"
    other = subprocess.Popen([sys.executable, "-c", code])
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(timeout=1.0)
    journal.append({"who": "first"})
    os.unlink(path)
    journal.close()
    assert other.wait(timeout=10) == 0
    assert [record["who"] for record in read_journal(path)] == ["other"], "into the file of that name, not the removed"


def test_a_full_disk_is_an_error():
    journal = Journal.__new__(Journal)
    journal._descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        journal.append({})
    journal.close()
