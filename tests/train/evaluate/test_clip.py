"""CLIP-T is torchmetrics' cosine picture by picture; long texts are cut where it can be seen."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchmetrics.functional.multimodal import clip_score
from transformers import CLIPModel, CLIPProcessor

from crawl.errors import InputError
from train.evaluate.clip import load_clip_scores, tiny_clip
from train.evaluate.meters import clip_t

TEXTS = ("a photo of a man in a red coat", "a wall", "a photo of a woman, in front of a building")


@pytest.fixture(scope="module")
def pictures():
    random = np.random.RandomState(0)
    return [Image.fromarray(random.randint(0, 255, (80, 80, 3), np.uint8)) for _ in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small random CLIP, saved."""
    path, clip = tmp_path_factory.mktemp("clip"), tiny_clip()
    clip.model.save_pretrained(path)
    CLIPProcessor(image_processor=clip._images, tokenizer=clip._tokenizer).save_pretrained(path)
    return str(path)


class Unpacked(nn.Module):
    """torchmetrics 1.9 wants tensors where transformers 5 gives objects."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, *given):
        return self.model.get_image_features(*given).pooler_output

    def get_text_features(self, *given):
        return self.model.get_text_features(*given).pooler_output


def test_it_equals_torchmetrics_picture_by_picture(folder, pictures):
    def theirs():
        return Unpacked(CLIPModel.from_pretrained(folder).eval()), CLIPProcessor.from_pretrained(folder)

    ours = load_clip_scores(folder)
    for picture, text, vector in zip(pictures, TEXTS, ours.images(pictures), strict=True):
        pixels = torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())
        with torch.no_grad():
            wanted = clip_score(pixels, text, model_name_or_path=theirs)
        found = clip_t(vector, ours.text(text))
        assert max(found, 0) == pytest.approx(float(wanted), abs=1e-4), "theirs is clamped at 0"
        assert float(wanted) > 0 or found <= 0


def test_at_least_one_of_them_is_no_clamped_zero(folder, pictures):
    ours = load_clip_scores(folder)
    values = [clip_t(v, ours.text(t)) for v in ours.images(pictures) for t in TEXTS]
    assert max(values) > 0 or min(values) < 0
    assert len(set(values)) > 1


def test_a_long_text_is_cut_before_its_end_token_and_said_to_be(folder):
    clip = load_clip_scores(folder)
    long = "photo of a man " * 30
    assert clip.truncated(long)
    assert not clip.truncated(TEXTS[0])
    assert torch.equal(clip.text(long), clip.text("photo of a man " * 40)), "the tail counts nowhere"
    tokens = clip._tokenizer([long], truncation=True, max_length=clip.most_tokens).input_ids[0]
    assert len(tokens) == 77
    assert tokens[-1] == clip._tokenizer.eos_token_id


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(pictures):
    clip = tiny_clip()
    together, alone = clip.images(pictures), torch.cat([clip.images([one]) for one in pictures])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(pictures)))


def test_no_such_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^clip: .*nothing: cannot be loaded"):
        load_clip_scores(str(tmp_path / "nothing"))
