"""What a BoLID adapter adds to the diffusion loss: keypoints and CLIP on the decoded x̂0 of samples at low timesteps.

At high noise x̂0 is a blur that neither network has ever seen. Knows nothing of conditions.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from train.adapters.body_encoder import person_box
from train.adapters.bolid_losses import ClipScore, PoseNetwork, keypoint_loss
from train.adapters.settings import PictureLossSettings
from train.base_models import Base
from train.data.batch import Batch
from train.decoded import clean, decoded
from train.step import Step, Term


class PictureLosses:
    """The frozen networks are loaded when a loss first asks: generation needs none. They are no adapter's weights."""

    def __init__(self, settings: PictureLossSettings, base: Base) -> None:
        self._settings, self._base = settings, base

    def terms(self, step: Step, predicted: Tensor) -> dict[str, Term]:
        """Of the UNet's output for x_t: `diffusion`, and `keypoints` and `clip` where they have a weight.

        Their values are 0 for samples at a high timestep, and means are over the whole batch.
        """
        terms = {"diffusion": Term(step.error(predicted))}
        settings, rows = self._settings, (step.timesteps < self._settings.decode_below).nonzero().flatten()
        weights = {"keypoints": settings.keypoint_weight, "clip": settings.clip_weight}
        wanted = {name: weight for name, weight in weights.items() if weight}
        images = self.decoded(step, predicted, rows) if wanted and len(rows) else None
        for name, weight in wanted.items():
            values = predicted.new_zeros(len(step.batch))
            if images is not None:
                loss = self._of_keypoints if name == "keypoints" else self._of_clip
                values = values.index_put((rows,), loss(step.batch, images, rows))
            terms[name] = Term(values, weight)
        return terms

    def decoded(self, step: Step, predicted: Tensor, rows: Tensor) -> Tensor:
        """x̂0 of these rows as images in [−1, 1]."""
        latents = clean(self._base, step.noisy[rows], predicted[rows], step.timesteps[rows])
        return decoded(self._base, latents, checkpointing=self._base.unet.is_gradient_checkpointing)

    def _of_keypoints(self, batch: Batch, images: Tensor, rows: Tensor) -> Tensor:
        """Zero where the pose was dropped: nobody asked for it."""
        assert batch.keypoints is not None
        wanted = batch.keypoints[rows]
        return keypoint_loss(self.pose(images, *person_box(wanted)), wanted) * ~batch.drop.body[rows]

    def _of_clip(self, batch: Batch, images: Tensor, rows: Tensor) -> Tensor:
        """Zero where the prompt was dropped."""
        prompts = [batch.prompts.general[row] for row in rows.tolist()]
        return self.clip.loss(images, prompts) * ~batch.drop.text[rows]

    @cached_property
    def pose(self) -> PoseNetwork:
        settings = self._settings
        assert settings.pose_network is not None
        return PoseNetwork(settings.pose_network, self._base.device, settings.pose_network_revision)

    @cached_property
    def clip(self) -> ClipScore:
        settings = self._settings
        assert settings.clip_model is not None
        return ClipScore(settings.clip_model, self._base.device, settings.clip_model_revision)
