"""Who is in which set: by what the runs were trained on; other photos are those that were not."""

import numpy as np
import pytest
from PIL import Image

from crawl.errors import InputError
from shards.read import Dataset
from train.config import DataConfig
from train.data.dataset import only
from train.data.draws import Draws
from train.data.groups import Groups, kept_back
from train.evaluate.people import sets_of


def keys(samples):
    return {sample.key for sample in samples}


def test_in_train_and_out_of_train_are_told_apart(people, settings):
    share = next(s / 20 for s in range(1, 20) if 0 < sum(kept_back(i, s / 20) for i in Dataset(people).identities) < 4)
    config = DataConfig(dataset=people, holdout=0.4, holdout_people=share)
    seen, unseen = sets_of(settings(sets=("in_train", "out_of_train"), people=10), people, [config], None)
    trained = {group.identity for group in Groups(only(Dataset(people).index, config), 0.4, (1, 2), Draws(0)).groups}
    assert {person.identity for person in seen.people} == trained
    assert trained
    assert {person.identity for person in unseen.people} == set(Dataset(people).identities) - trained
    assert not seen.note
    assert not unseen.note


def test_the_references_were_trained_on_and_the_others_were_not(people, settings):
    (group,) = sets_of(settings(photos=16), people, [DataConfig(dataset=people, holdout=0.4)], None)
    index = Dataset(people).index
    by_identity = {one.identity: one for one in Groups(index, 0.4, (1, 2), Draws(0)).groups}
    for person in group.people:
        own = by_identity[person.identity]
        assert keys(person.references) <= {index.keys[p].decode() for p in own.training}
        if len(own.held_out):
            assert keys(person.others) == {index.keys[p].decode() for p in own.held_out}
        assert not keys(person.references) & keys(person.others)


def test_runs_on_different_people_share_the_sets(people, settings, tmp_path, write_people):
    elsewhere = write_people(tmp_path / "elsewhere", counts=(5, 4))
    configs = [DataConfig(dataset=people), DataConfig(dataset=elsewhere)]
    seen, unseen = sets_of(settings(sets=("in_train", "out_of_train"), people=10), people, configs, None)
    assert len(seen.people) == 2
    assert not unseen.people
    assert "whom no run trained on (data.holdout_people)" in unseen.note
    assert "data.holdout is 0" in seen.note


def test_a_folder_is_a_set_of_its_own(people, settings, tmp_path, monkeypatch):
    from train.evaluate.people import Portraits

    monkeypatch.setattr("train.portraits.load_detector", lambda config: Detector())
    assert Portraits
    random = np.random.RandomState(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(random.randint(0, 255, (200, 200, 3), np.uint8)).save(tmp_path / name / f"{i}.png")
    (group,) = sets_of(settings(sets=("out_of_domain",)), people, [DataConfig(dataset=people)], str(tmp_path))
    assert [(len(person.references), len(person.others)) for person in group.people] == [(1, 2), (1, 2)]
    (none,) = sets_of(settings(sets=("out_of_domain",)), people, [DataConfig(dataset=people)], None)
    assert (none.people, none.note) == ((), "no folder was given (--out-of-domain)")


def test_what_is_not_there_is_one_line(people, settings, tmp_path):
    with pytest.raises(InputError, match=r"^--data: .*none: no dataset here"):
        sets_of(settings(), str(tmp_path / "none"), [DataConfig(dataset=people)], None)
    with pytest.raises(InputError, match=r"^data.dataset of a run: .*gone: no dataset here"):
        sets_of(settings(), people, [DataConfig(dataset=str(tmp_path / "gone"))], None)
    with pytest.raises(InputError, match=r"^--out-of-domain: .*nobody: no such folder"):
        sets_of(settings(sets=("out_of_domain",)), people, [], str(tmp_path / "nobody"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"^--out-of-domain: .*holds no photos"):
        sets_of(settings(sets=("out_of_domain",)), people, [], str(tmp_path / "empty"))


class Detector:
    def detect(self, image, min_face_px):
        from filter.faces import Face

        return [Face((60.0, 50.0, 120.0, 120.0), ((75, 75), (105, 75), (90, 90), (78, 105), (102, 105)), 1.0)]
