"""Small runs on the tiny base, over people that are patterns; a UNet of SDXL's real size that takes no memory."""

import dataclasses
import hashlib
import io
import os
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import nn

from crawl.output import Output
from crawl.photo import bucket_of, identity_key, photo_key
from shards.encoders.config import BaseConfig
from shards.format.index import write_index
from shards.format.sample import Sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket
from train.adapters.adapter import Adapter, Conditions, Group, Needs, Stream
from train.adapters.attention import install_streams
from train.adapters.settings import NoAdapterSettings
from train.base_models import Base, load_base
from train.config import TrainRun
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.loop import Loop
from train.optimise import Ema, Optimiser
from train.processes import Processes
from train.trained import trained

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of processes the tests start: sums of other parts are other numbers

PX = 32
BUCKETS = 2
SIZE_PX = 64
FACE_PX = 40
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}


class Told(Adapter):
    """The mean CLIP vector of the references, as two tokens of a stream: the least that carries an identity."""

    kind = "told"

    def __init__(self, settings, base):
        super().__init__(settings, base)
        generator = torch.Generator().manual_seed(settings.seed)
        self.to_tokens = nn.Linear(base.clip.pooled_width, 2 * base.context_width)
        for parameter in self.to_tokens.parameters():
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        self.layers = nn.ModuleList(install_streams(base, ["identity"]).values())

    @classmethod
    def needs(cls, settings):
        return Needs(references=True, clip=True, text=("general",))

    def groups(self):
        return [
            Group("tokens", tuple(self.to_tokens.parameters())),
            Group("layers", tuple(p for layer in self.layers for p in layer.parameters())),
        ]

    def identity_embeddings(self, batch):
        present = batch.references.present[..., None]
        return (batch.references.clip.pooled * present).sum(1) / present.sum(1)

    def conditions(self, batch):
        states = batch.prompts.states
        text = states["general"].where(~batch.drop.text, states[""])
        tokens = self.to_tokens(self.identity_embeddings(batch)).unflatten(-1, (2, -1))
        stream = Stream(tokens, present=~batch.drop.identity)
        return Conditions(text.hidden, text.pooled, batch.time_ids, {"identity": stream})


@pytest.fixture(scope="session")
def run_in():
    """A run file in short: the folder, and sections as keywords."""

    def make(folder, **sections):
        loop = {"steps": 4, "batch_size": 3, "train_unet": True, "log_every": 1, "gauges_every": 100, "save_every": 100}
        return TrainRun.model_validate(
            {
                "output": str(folder),
                "data": {"dataset": "synthetic", "size_px": PX} | sections.pop("data", {}),
                "adapter": sections.pop("adapter", {"kind": "none"}),
                "loop": loop | {"gauge_samples": 2} | sections.pop("loop", {}),
                "samples": {"steps": 1, "identities": 2, "guidance": 1} | sections.pop("samples", {}),
                **sections,
            }
        )

    return make


@pytest.fixture
def tiny_run(tmp_path, run_in):
    """A run file in short, whose output is in the test's folder."""
    return partial(run_in, tmp_path / "run")


@pytest.fixture(scope="session")
def synthetic():
    """A maker of sources for `train.run.train`; keywords go to the source, or name a sub-class of it."""

    def make(kind=Synthetic, **options):
        def source(run, needs, base, draws):
            data = run.data
            return kind(base, needs, draws, data.size_px, references=data.references, drop=data.drop, **options)

        return source

    return make


@pytest.fixture
def told_loop():
    """A loop that trains `Told` over patterns, without files."""

    def make(run, kind=Synthetic, adapter=Told, **options):
        base = load_base(BaseConfig(), clip=True)
        method = adapter(NoAdapterSettings(), base)
        what = trained(base, method, run.loop.train_unet)
        draws = Draws(run.loop.seed)
        source = kind(base, method.needs(None), draws, PX, drop=run.data.drop, **options)
        ema = Ema(what, run.loop.ema) if run.loop.ema else None
        return Loop(
            run, base, method, what, Optimiser(what, run.optim, run.loop.steps), ema, source, draws, Processes()
        )

    return make


@dataclasses.dataclass(frozen=True, eq=False)
class Broken(Synthetic):
    """The third sample of the third step has latents that are not finite."""

    def batch(self, step, rows, batch_size):
        batch = super().batch(step, rows, batch_size)
        if step == 2 and 2 in rows:
            batch.latents[rows.index(2), 0, 0, 0] = torch.nan
        return batch


@pytest.fixture
def broken():
    """A kind of source; see `Broken`."""
    return Broken


@pytest.fixture
def told():
    """A method; see `Told`."""
    return Told


@pytest.fixture
def sdxl_base():
    """SDXL's shapes on the meta device: for names and parameter counts, nothing can be computed."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL).requires_grad_(False)
    config = BaseConfig(family="sdxl", weights="none")
    return Base(config, unet=unet, schedule=None, text=None, vae=None)


def _jpeg(colour, seed, side):
    noise = np.random.RandomState(seed).randint(-40, 40, (side, side, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _sample(person, number, changes):
    identity = identity_key(f"Person {person}")
    key = photo_key(identity, f"{number}.jpg", "")
    seed = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)
    colour = np.random.RandomState(person).randint(60, 200, 3)
    metadata = {
        "key": key, "identity": identity, "general": f"a photo of a person, number {number}",
        "background": f"in front of a wall {number}", "body": f"in a coat {person}", "class_word": "person",
        "trigger_position": 19, "original_size": [300 + number, 200], "crop_top_left": [16, 8], "size_px": SIZE_PX,
        "face_xyxy_px": [20.0, 10.0, 40.5, 35.0],
        "landmarks_px": [[25, 20], [35, 20], [30, 25], [26, 30], [34, 30]],
        "keypoints": [[4.0 * i, 3.0 * i] for i in range(12)], "keypoint_scores": [0.5] * 12, "keypoints_reason": "",
    }  # fmt: skip
    metadata |= changes(person, number)
    return Sample(key, identity, _jpeg(colour, seed, SIZE_PX), _jpeg(colour, seed + 1, FACE_PX), metadata)


@pytest.fixture(scope="session")
def write_people():
    """(folder, photos of each person, (person, number) → other metadata) → the dataset's url.

    People are colours: each photo is noise of its person's.
    """

    def write(url, counts=(5, 4, 3, 6), changes=lambda person, number: {}, max_bytes=30_000):
        output, shards, rows = Output(str(url)), [], []
        people = [[_sample(person, i, changes) for i in range(count)] for person, count in enumerate(counts)]
        for bucket in range(BUCKETS):
            mine = [sample for photos in people for sample in photos if bucket_of(sample.identity, BUCKETS) == bucket]
            mine.sort(key=lambda sample: (sample.identity, sample.key))
            sizes = [(sample.identity, sample_size(sample)) for sample in mine]
            new_shards, new_rows = write_bucket(output, bucket, mine, sizes, max_bytes)
            shards, rows = shards + new_shards, rows + new_rows
        write_index(output, BUCKETS, shards, rows)
        return str(url)

    return write
