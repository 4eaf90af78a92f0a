"""PhotoMaker v1 and v2: identity as the class token of the prompt, repeated once a reference and fused with it.

And the thesis' other ways in: an attention of its own (5.2.1), both (5.2.2), with the LoRA copied into it (5.2.3).
Knows nothing of extra prompts: `split_prompt` adds them.
Source: PhotoMaker, arXiv 2312.04461.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shards.encoders.load import load_clip, load_face
from shards.encoders.text import TextStates
from train.adapters.adapter import Adapter, Conditions, Group, Needs, Stream
from train.adapters.attention import install_streams
from train.adapters.id_encoder import TOKENS, IdEncoder, owns_tower
from train.adapters.lora import add_lora
from train.adapters.low_rank_kv import LowRank, LowRankKv
from train.adapters.photomaker_format import flat_keys, read_photomaker
from train.adapters.settings import AdapterSettings, PhotoMakerSettings
from train.adapters.trigger import expand
from train.base_models import Base
from train.data.batch import Batch


class PhotoMaker(Adapter):
    """A dropped text drops the identity too; a dropped identity leaves the prompt as it is, without trigger."""

    kind = "photomaker"
    settings: PhotoMakerSettings

    def __init__(self, settings: PhotoMakerSettings, base: Base) -> None:
        super().__init__(settings, base)
        names = self.stream_names(settings)
        self.tokens = TOKENS[settings.version]
        clip, face = base.clip or load_clip(base.config), _face_width(settings, base)
        self.id_encoder = IdEncoder(clip.model, base.text.widths, settings, face, "identity" in names).to(base.device)
        self.lora = add_lora(base, settings.lora, settings.seed) if settings.lora else None
        self.adapters = self._install(names)
        self.requires_grad_(False)
        for parameter in self.trained_parameters():
            parameter.requires_grad_(True)

    @classmethod
    def stream_names(cls, settings: PhotoMakerSettings) -> tuple[str, ...]:
        """Attentions beside the text's."""
        return () if settings.identity_path == "text" else ("identity",)

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        assert isinstance(settings, PhotoMakerSettings)
        own = owns_tower(settings)
        return Needs(
            references=True,
            pixels=own,
            clip=not own,
            clip_states=("last",),
            face=settings.version == "v2",
            text=("general",) if settings.identity_path == "attention" else (),
        )

    def groups(self) -> list[Group]:
        settings, lora = self.settings, [] if self.lora is None else list(self.lora.children())
        streams = [kv for stream in self.adapters.children() for kv in stream.children()]
        copies = [kv for kv in streams if isinstance(kv, LowRankKv)]
        modules: dict[str, list[nn.Module]] = {
            "clip": self.id_encoder.used_tower() if settings.train_clip else [],
            "projections": self.id_encoder.projections() if settings.train_projections else [],
            "fuse": self.id_encoder.fuses() if settings.train_fuse else [],
            "lora": [*lora, *copies],
            "kv": [kv for kv in streams if kv not in copies],
            "norm": self.id_encoder.norms(),
        }
        return [
            Group(name, tuple(parameter for module in found for parameter in module.parameters()))
            for name, found in modules.items()
            if found
        ]

    def conditions(self, batch: Batch) -> Conditions:
        used = self._used(batch)
        last, embeddings = self._looked(batch, used)
        text = self._text(batch, used, embeddings)
        time_ids = batch.time_ids if self.base.has_time_ids else None
        return Conditions(text.hidden, text.pooled, time_ids, self._streams(batch, used, last, embeddings))

    def identity_embeddings(self, batch: Batch) -> Tensor:
        """Mean id embedding [B, C] of each sample's references, before any fusing; zero without references."""
        used = self._used(batch)
        _, embeddings = self._looked(batch, used)
        sums = torch.zeros(len(batch), embeddings.shape[-1], device=used.device)
        sums = sums.index_add(0, used.nonzero()[:, 0], embeddings.float().mean(1))
        return sums / used.sum(1, keepdim=True).clamp(min=1)

    @classmethod
    def formats(cls, settings: AdapterSettings) -> frozenset[str]:
        return frozenset(f for f in ("native", "photomaker") if cls.refusal(settings, f) is None)

    @classmethod
    def refusal(cls, settings: AdapterSettings, format: str) -> str | None:
        assert isinstance(settings, PhotoMakerSettings)
        if format == "native":
            return None
        if format != "photomaker" or settings.kind != "photomaker":
            return f"adapter.kind: {settings.kind} has no such form"
        if settings.identity_path != "text":
            return f"adapter.identity_path: {settings.identity_path}: the file has no place for its attention"
        return "adapter.lora: null: the file must have LoRA weights" if settings.lora is None else None

    def export(self, format: str) -> dict[str, Tensor]:
        if format != "photomaker":
            return super().export(format)
        assert self.lora is not None
        return flat_keys(self.id_encoder.published(), self.lora.state)

    def load_weights(self, path: str) -> None:
        """A published v1 or v2 file; its LoRA is left out where these settings have none."""
        id_encoder, lora = read_photomaker(path)
        self.id_encoder.load(id_encoder, path)
        if self.lora is not None:
            self.lora.load(lora, path)
        self._copy_lora()

    def fitted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A LoRA of a smaller rank goes on inside ours (thesis, A.1.5)."""
        own = {key: value for key, value in self.state_dict().items() if key.startswith("lora.")}
        return {key: _widened(own[key], value) if key in own else value for key, value in state.items()}

    def _install(self, names: tuple[str, ...]) -> nn.ModuleDict:
        """Stream name → index of the layer → its K and V; these live in the UNet's processors."""
        if not names:
            return nn.ModuleDict()
        processors = install_streams(self.base, names)
        if self.settings.copy_lora:
            assert self.lora is not None
            for index, name in self.base.cross_layers().items():
                attention = self.base.unet.get_submodule(name.removesuffix(".processor"))
                processors[index].streams["identity"] = LowRankKv(attention, self.lora.scale)
        return by_stream({index: processor.streams for index, processor in processors.items()}, names)

    def _used(self, batch: Batch) -> Tensor:
        """bool [B, N]: references that take part."""
        dropped = batch.drop.text | batch.drop.identity
        used = batch.references.present & ~dropped[:, None]
        return used & (used.cumsum(1) <= self.settings.max_references)

    def _looked(self, batch: Batch, used: Tensor) -> tuple[Tensor, Tensor]:
        """Of the M used references, in order: CLIP's last states [M, T, D], id embeddings [M, tokens, C]."""
        references = batch.references
        if owns_tower(self.settings):
            assert references.faces is not None
            last = self.id_encoder.look(references.faces[used])
        else:
            assert references.clip is not None
            last = references.clip.last[used]
        faces = None if references.embeddings is None else references.embeddings[used]
        return last, self.id_encoder.embeddings(last, faces)

    def _text(self, batch: Batch, used: Tensor, embeddings: Tensor) -> TextStates:
        prompts = batch.prompts
        if self.settings.identity_path == "attention":
            return batch.general()
        marked = torch.tensor([at > 0 for at in prompts.trigger_position], device=used.device)
        counts = (self.tokens * used.sum(1) * marked).tolist()
        general = ["" if gone else text for gone, text in zip(batch.drop.text.tolist(), prompts.general, strict=True)]
        expanded = expand(self.base.text, general, prompts.trigger_position, counts)
        with torch.no_grad():
            states = self.base.text.forward(expanded.ids)
        rows = marked[:, None].expand_as(used)[used]
        fused = self.id_encoder.fuse_module(
            states.hidden, expanded.mask.to(used.device), embeddings[rows].flatten(0, 1)
        )
        return TextStates(fused, states.pooled)

    def _streams(self, batch: Batch, used: Tensor, last: Tensor, embeddings: Tensor) -> dict[str, Stream]:
        if "identity" not in self.adapters:
            return {}
        tokens = self.id_encoder.stream_tokens(last, embeddings)
        padded = tokens.new_zeros(*used.shape, *tokens.shape[1:]).index_put(used.nonzero(as_tuple=True), tokens)
        mask = used.repeat_interleave(self.tokens, dim=1)
        return {"identity": Stream(padded.flatten(1, 2), mask, scale=self._scale("identity"))}

    def _scale(self, stream: str) -> float:
        return 1.0

    def _copy_lora(self) -> None:
        for module in self.adapters.modules():
            if isinstance(module, LowRank):
                module.copy()


def _face_width(settings: PhotoMakerSettings, base: Base) -> int | None:
    return (base.face or load_face(base.config)).width if settings.version == "v2" else None


def by_stream(layers: Mapping[int, nn.ModuleDict], names: tuple[str, ...]) -> nn.ModuleDict:
    """Index of the layer → name → module, turned round: `NAME.INDEX.…` are the keys of native weights."""
    return nn.ModuleDict(
        {name: nn.ModuleDict({str(index): streams[name] for index, streams in layers.items()}) for name in names}
    )


def _widened(own: Tensor, given: Tensor) -> Tensor:
    """A LoRA factor of smaller rank inside ours: the update is the same, the other directions stay as they begin."""
    down, up = given.shape[1] == own.shape[1], given.shape[0] == own.shape[0]
    if not (down or up) or given.numel() >= own.numel():
        return given
    wider = own.clone()
    wider[: given.shape[0], : given.shape[1]] = given
    return wider
