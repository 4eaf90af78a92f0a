"""What a model has said is never asked for again: whatever was deleted, changed or killed since."""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from caption.chat import Conversation, NoReply, Reply
from caption.replies import FOLDER, KnownFirst, Replies, Speaker, reply_key, speeds
from crawl.errors import InputError, Paused
from crawl.output import Output
from crawl.photo import bucket_of, identity_key

SPEAKER = Speaker("test:model@1", '{"temperature": 0.0}')
IDENTITIES = [identity_key(f"Person {n}") for n in range(12)]


def talk(number=0, *more, identity=IDENTITIES[0]):
    return Conversation(identity, b"photo %d" % number, "system", ("ask", *more), structured=True)


class Counting:
    """Says the number of the question; writes down what it was asked."""

    def __init__(self, fails=()):
        self.asked, self.fails = [], fails

    def ask(self, conversations):
        self.asked += conversations
        return [self._one(c) for c in conversations]

    def _one(self, conversation):
        for photo, outcome in self.fails:
            if conversation.image_jpeg == photo:
                return outcome
        return Reply(f"of {conversation.image_jpeg.decode()} after {len(conversation.turns)} turns", 7, 3)


@pytest.fixture
def output(tmp_path):
    return Output(str(tmp_path))


def known_first(output, chat, speaker=SPEAKER, bucket=0, buckets=1):
    ticks = itertools.count(0, 2)
    return Asking(KnownFirst(lambda: chat, speaker, Replies(output, bucket, buckets), lambda: float(next(ticks))))


class Asking:
    """Begins and waits."""

    def __init__(self, known_first):
        self.known_first = known_first

    def ask(self, *batches):
        with ThreadPoolExecutor(1) as model:
            replies = [self.known_first.begin(list(batch), model) for batch in batches]
            return [wait() for wait in replies][-1]


def test_a_known_reply_is_not_asked_for_again(output):
    chat = Counting()
    first = known_first(output, chat).ask([talk(0), talk(1)])
    again = known_first(output, chat).ask([talk(1), talk(2), talk(0)])
    assert [c.image_jpeg for c in chat.asked] == [b"photo 0", b"photo 1", b"photo 2"]
    assert (again[2], again[0]) == tuple(first)
    assert again[1].text == "of photo 2 after 1 turns"


def test_no_model_is_opened_when_everything_is_known(output):
    known_first(output, Counting()).ask([talk(0)])

    def unused():
        raise AssertionError("opened")

    replies = Replies(output, 0, 1)
    assert Asking(KnownFirst(unused, SPEAKER, replies, lambda: 0.0)).ask([talk(0)])[0].new_tokens == 3


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(talk(), image_jpeg=b"another crop"),
        dataclasses.replace(talk(), system="other"),
        talk(0, "said", "again"),
        dataclasses.replace(talk(), structured=False),
    ],
)
def test_all_that_a_reply_depends_on_is_in_its_key(other):
    assert reply_key(other, SPEAKER) != reply_key(talk(), SPEAKER)
    assert reply_key(talk(), dataclasses.replace(SPEAKER, name="test:model@2")) != reply_key(talk(), SPEAKER)
    assert reply_key(talk(), dataclasses.replace(SPEAKER, manner="{}")) != reply_key(talk(), SPEAKER)


def test_whose_the_photo_is_does_not_matter():
    assert reply_key(talk(identity=IDENTITIES[1]), SPEAKER) == reply_key(talk(), SPEAKER)


def test_one_photo_twice_in_a_batch_is_asked_once(output):
    chat = Counting()
    one, two = known_first(output, chat).ask([talk(0), talk(0, identity=IDENTITIES[1])])
    assert one == two
    assert len(chat.asked) == 1


def test_one_photo_in_two_batches_in_hand_is_asked_once(output):
    chat = Counting()
    same, other = known_first(output, chat).ask([talk(0), talk(1)], [talk(0), talk(2)])
    assert same.text == "of photo 0 after 1 turns"
    assert other.text == "of photo 2 after 1 turns"
    assert len(chat.asked) == 3


def test_one_that_failed_in_the_batch_before_is_asked_again(output):
    chat = Counting(fails=[(b"photo 0", NoReply("http_500"))])
    assert known_first(output, chat).ask([talk(0)], [talk(0), talk(1)])[0] == NoReply("http_500")
    assert [c.image_jpeg for c in chat.asked].count(b"photo 0") == 2


def test_each_batch_is_on_disk_when_it_is_handed_on(output):
    asking = known_first(output, Counting())
    for number in range(3):
        asking.ask([talk(number)])
        assert Replies(output, 0, 1).get(reply_key(talk(number), SPEAKER)) is not None


def test_what_came_before_a_stop_is_kept(output):
    chat = Counting(fails=[(b"photo 1", NoReply("budget", "all 1 requests are spent", stops=True))])
    with pytest.raises(Paused, match=r"^all 1 requests are spent$"):
        known_first(output, chat).ask([talk(0), talk(1)])
    later = Counting()
    known_first(output, later).ask([talk(0), talk(1)])
    assert [c.image_jpeg for c in later.asked] == [b"photo 1"]


def test_no_reply_is_not_kept(output):
    told = known_first(output, Counting(fails=[(b"photo 0", NoReply("http_500"))])).ask([talk(0), talk(1)])
    assert told[0] == NoReply("http_500")
    assert known_first(output, Counting()).ask([talk(0)])[0].text == "of photo 0 after 1 turns"


def test_files_are_joined_and_nothing_is_lost(output):
    asking, chat = known_first(output, Counting()), Counting()
    for number in range(7):
        asking.ask([talk(number)])
    assert len(output.names(FOLDER)) == 7
    Replies(output, 0, 1).settle()
    assert len(output.names(FOLDER)) == 1
    known_first(output, chat).ask([talk(number) for number in range(7)])
    assert chat.asked == []


def test_killed_while_joining_nothing_is_lost_or_doubled(output):
    asking, chat = known_first(output, Counting()), Counting()
    for number in range(7):
        asking.ask([talk(number)])
    before = {name: output.read(f"{FOLDER}/{name}") for name in output.names(FOLDER)}
    Replies(output, 0, 1).settle()
    for name, content in list(before.items())[:5]:  # the first two removals were done
        output.write(f"{FOLDER}/{name}", content)
    Replies(output, 0, 1).settle()
    (joined,) = output.names(FOLDER)
    assert pq.read_metadata(output.path(f"{FOLDER}/{joined}")).num_rows == 7
    known_first(output, chat).ask([talk(number) for number in range(7)])
    assert chat.asked == []


@pytest.mark.parametrize("buckets", [1, 3, 8])
def test_another_number_of_buckets_pays_for_nothing(output, buckets):
    talks = {who: talk(n, identity=who) for n, who in enumerate(IDENTITIES)}
    for who, conversation in talks.items():
        known_first(output, Counting(), bucket=bucket_of(who, 4), buckets=4).ask([conversation])
    chat = Counting()
    for who, conversation in talks.items():
        known_first(output, chat, bucket=bucket_of(who, buckets), buckets=buckets).ask([conversation])
    assert chat.asked == []


def test_a_bucket_holds_only_its_own(output):
    for who in IDENTITIES:
        known_first(output, Counting(), bucket=bucket_of(who, 4), buckets=4).ask([talk(identity=who)])
    for bucket in range(3):
        whose = {row.identity for row in Replies(output, bucket, 3)._known.values()}
        assert whose <= {who for who in IDENTITIES if bucket_of(who, 3) == bucket}


def test_the_time_of_a_batch_is_shared_among_its_replies(output):
    known_first(output, Counting()).ask([talk(n) for n in range(4)])
    assert speeds(output, SPEAKER) == (4, 12, 2.0)
    assert speeds(output, Speaker("test:another", "{}")) is None


def test_a_damaged_file_is_named(output):
    known_first(output, Counting()).ask([talk()])
    (name,) = output.names(FOLDER)
    path = Path(output.path(f"{FOLDER}/{name}"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=rf"{name}: damaged: .*remove it to ask again"):
        Replies(output, 0, 1)
