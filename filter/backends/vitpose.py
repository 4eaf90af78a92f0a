"""ViTPose through transformers: a person's box in, COCO's 17 keypoints out, in batches, on a GPU when there is one.

The box is that of the body BlazePose finds for the verified face: ViTPose itself takes whoever fills its box, and a
box guessed from a face alone would hold a neighbour as often as the legs. Where BlazePose finds no body there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as PILImage

from crawl.errors import InputError, one_line
from crawl.photo import Rejection
from filter.backends.blazepose import BlazePose, inside
from filter.backends.blazepose_networks import Landmarks
from filter.backends.hub import version, where
from filter.faces import Box, Face
from filter.keypoints import VISIBLE, Pose

KEYPOINTS = slice(5, 17)
"""Our 12 among COCO's 17."""
COCO_EXPERT = 0
"""Of ViTPose+, which has one for each data set it was trained on."""
BODY_POINTS = 33
MARGIN = 0.1
"""Round the visible landmarks, of the longer side: they lie inside the body."""
LICENCES = {f"usyd-community/vitpose-base{kind}": "Apache-2.0" for kind in ("", "-simple", "-coco-aic-mpii")}
"""Of the weights, as their publisher states them."""


class VitPose:
    """ViTPose on the boxes of BlazePose's bodies, in float32. The scores are the heatmaps' peaks, 0–1."""

    def __init__(self, model: str, revision: str, blazepose: BlazePose) -> None:
        self._torch, self._processor, self._model = _loaded(model, revision)
        self._blazepose = blazepose

    def estimate(self, photos: Sequence[PILImage.Image], faces: Sequence[Face]) -> list[Pose | Rejection]:
        """One answer a photo; those with a body go through the network together."""
        pairs = list(zip(photos, faces, strict=True))
        bodies = [self._blazepose.body(photo, face) for photo, face in pairs]
        found = [
            (photo, box_of(body, photo, face))
            for (photo, face), body in zip(pairs, bodies, strict=True)
            if not isinstance(body, Rejection)
        ]
        poses = iter(self.poses([photo for photo, _ in found], [box for _, box in found]))
        return [body if isinstance(body, Rejection) else next(poses) for body in bodies]

    def poses(self, photos: Sequence[PILImage.Image], boxes: Sequence[Box]) -> list[Pose]:
        """The person in the box of each photo, as transformers' own processor reads the heatmaps."""
        if not photos:
            return []
        in_coco_form = [[[left, top, right - left, bottom - top]] for left, top, right, bottom in boxes]
        inputs = self._processor(list(photos), boxes=in_coco_form, return_tensors="pt").to(self._model.device)
        if getattr(self._model.config.backbone_config, "num_experts", 1) > 1:
            inputs["dataset_index"] = self._torch.full((len(photos),), COCO_EXPERT, device=self._model.device)
        with self._torch.inference_mode():
            outputs = self._model(**inputs)
        people = self._processor.post_process_pose_estimation(outputs, boxes=in_coco_form)
        return [_pose(person) for (person,) in people]


def box_of(body: Landmarks, photo: PILImage.Image, face: Face) -> Box:
    """The body's box in the photo: its visible landmarks and the face, and a margin."""
    points = body.points_px[:BODY_POINTS]
    visible = (body.visibility[:BODY_POINTS] >= VISIBLE) & inside(points, photo.size)
    corners = np.concatenate([points[visible], np.reshape(face.box_xyxy_px, (2, 2))])
    low, high = corners.min(0), corners.max(0)
    margin = MARGIN * (high - low).max()
    left, top = np.maximum(low - margin, 0)
    right, bottom = np.minimum(high + margin, photo.size)
    return float(left), float(top), float(right), float(bottom)


def licence(model: str, revision: str) -> str:
    """One line, to be printed once at start."""
    return f"{version(model, revision)}: {LICENCES.get(model, 'as its publisher states')}{where(model)}"


def _loaded(model: str, revision: str) -> tuple[Any, Any, Any]:
    """torch, the image processor, and the network where it is to run."""
    try:
        import torch
        from transformers import VitPoseForPoseEstimation, VitPoseImageProcessor
    except ImportError as error:
        raise InputError(f"filter.pose: vitpose: {one_line(error)}: pip install 'personae[vitpose]'") from None
    try:
        processor = VitPoseImageProcessor.from_pretrained(model, revision=revision)
        network = VitPoseForPoseEstimation.from_pretrained(model, revision=revision, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(f"filter.vitpose_model: {model}: cannot be loaded: {one_line(error)[:300]}") from None
    labels = network.config.num_labels
    if labels < KEYPOINTS.stop:
        raise InputError(f"filter.vitpose_model: {model}: finds {labels} keypoints, COCO's 17 are needed")
    return torch, processor, network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _pose(person: dict[str, Any]) -> Pose:
    points, scores = person["keypoints"][KEYPOINTS].tolist(), person["scores"][KEYPOINTS].tolist()
    return Pose(tuple((float(x), float(y)) for x, y in points), tuple(min(max(s, 0.0), 1.0) for s in scores))
