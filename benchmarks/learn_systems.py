"""What `benchmarks.learn` compares: every method of the trainer, the learning rates each begins with, its run file.

Knows no dataset beyond its folder.
"""

from __future__ import annotations

from typing import Any

_OWN = {"identity_path": "attention", "lora": None}
"""Identity through an attention of its own: through the class token alone (`text`) it takes longer."""
SYSTEMS: dict[str, dict[str, Any]] = {
    "ip_adapter base": {"kind": "ip_adapter", "encoder": "base"},
    "ip_adapter plus": {"kind": "ip_adapter", "encoder": "plus"},
    "ip_adapter faceid": {"kind": "ip_adapter", "encoder": "faceid"},
    "photomaker v1": {"kind": "photomaker", "version": "v1", "train_clip": True, **_OWN},
    "photomaker v2": {"kind": "photomaker", "version": "v2", "face_norm": 11, **_OWN},
    "split_prompt parallel": {
        "kind": "split_prompt", "version": "v2", "face_norm": 11, "parts": ["background", "body"], **_OWN,
    },
    "split_prompt sequential": {
        "kind": "split_prompt", "version": "v2", "face_norm": 11, "parts": ["background", "body"],
        "order": "sequential", **_OWN,
    },
    "pulid": {"kind": "pulid", "version": "v1.1", "face_norm": 11},
    "photomaker v2, text": {"kind": "photomaker", "version": "v2", "face_norm": 11, "lora": {"rank": 4}},
    "bolid": {"kind": "bolid"},
    "bolid_latent": {"kind": "bolid_latent"},
    "bolid, wide": {"kind": "bolid"},
    "bolid_latent, wide": {"kind": "bolid_latent"},
    "dreambooth, LoRA": {"kind": "dreambooth", "prompt": None, "prior_weight": 0},
    "dreambooth, whole UNet": {"kind": "dreambooth", "prompt": None, "prior_weight": 0, "lora": None},
    "textual_inversion": {"kind": "textual_inversion", "prompt": None},
}  # fmt: skip
"""BoLID's losses on pictures stay off: ViTPose and CLIP have random weights where only `tiny` is."""
WIDE = frozenset({"bolid, wide", "bolid_latent, wide"})
"""They see the same photos with as much of the body as there is: close-ups show few keypoints."""
GROUP_LR = {
    "base": {"image_proj": 1e-3, "ip_kv": 6e-3},
    "faceid": {"image_proj": 6e-3, "ip_kv": 6e-3},
    "plus": {"image_proj": 1e-3, "ip_kv": 6e-3},
    "v1": {"clip": 1e-3, "projections": 4e-3, "kv": 6e-3},
    "v2": {"projections": 2e-3, "kv": 6e-3},
    "v1.1": {"id_encoder": 1e-3, "id_kv": 6e-3},
    "text": {"projections": 2e-3, "fuse": 6e-3},
    "bolid": {"face_proj": 6e-3, "body_proj": 3e-4, "pose_proj": 1e-3, "attention": 6e-3},
    "bolid_latent": {"body_vector": 1e-3, "body_proj": 1e-3, "reference_proj": 1e-3, "attention": 6e-3},
    "none": {},
}
"""New modules begin at nothing and have few steps to become something. Deep ones (a resampler) collapse at 6e-3."""
PERSON_LR = {"dreambooth, LoRA": 5e-3, "dreambooth, whole UNet": 1e-3, "textual_inversion": 5e-2}
"""Of the systems that are trained for one person at a time: one run each, all from one base."""
PEOPLE_SHARE = 7 / 12
"""Of the steps of such a system, that its people have between them; the base, without identity, has the others."""
DROP = {
    "none": {"text": 0.3, "identity": 0, "both": 0},
    "ip_adapter": {"text": 0.3, "identity": 0.05, "both": 0.05},
    "pulid": {"text": 0.3, "identity": 0.05, "both": 0.05},
    "photomaker": {"text": 0, "identity": 0.05, "both": 0.1},
    "split_prompt": {"text": 0, "identity": 0.05, "both": 0.1},
    "bolid": {"text": 0.3, "identity": 0.05, "both": 0.05, "parts": 0.1},
    "bolid_latent": {"text": 0.3, "identity": 0.05, "both": 0.05, "parts": 0.1},
}
"""PhotoMaker drops text and identity together, or identity alone."""


def settings(adapter: dict[str, Any], dataset: str, output: str, steps: int) -> dict[str, Any]:
    """The run file of one system."""
    text = adapter["kind"] == "photomaker" and "identity_path" not in adapter
    group_lr = GROUP_LR["text" if text else adapter.get("encoder") or adapter.get("version") or adapter["kind"]]
    return {
        "output": output,
        "data": {"dataset": dataset, "holdout": 0.3, "references": [2, 4], "drop": DROP[adapter["kind"]]},
        "base": {"face": "open"},
        "adapter": adapter,
        "optim": {
            "lr": 2e-3,
            "group_lr": group_lr,
            "warmup_steps": 30,
            "schedule": "cosine",
            "weight_decay": 0.0,
        },
        "loss": {"zero_terminal_snr": True},
        "loop": {
            "steps": steps,
            "batch_size": 8,
            "train_unet": True,
            "fit_vae_steps": 200,
            "gauges_every": max(1, steps // 4),
            "gauge_samples": 56,
            "log_every": 50,
            "save_every": steps,
        },
        "samples": {"identities": 1, "steps": 1},
    }


def person_settings(name: str, who: str, dataset: str, output: str, base: str, steps: int) -> dict[str, Any]:
    """The run file of one person's run of a system, from the weights of the run `base`."""
    whole = SYSTEMS[name].get("lora", {}) is None
    return {
        "output": output,
        "init_from": base,
        "data": {
            "dataset": dataset,
            "identities": [who],
            "holdout": 0.3,
            "drop": {"text": 0, "identity": 0, "both": 0},
        },
        "adapter": SYSTEMS[name],
        "optim": {"lr": PERSON_LR[name], "warmup_steps": 5, "schedule": "cosine", "weight_decay": 0.0},
        "loss": {"zero_terminal_snr": True},
        "loop": {
            "steps": steps,
            "batch_size": 8,
            "train_unet": whole,
            "gauges_every": steps,
            "gauge_samples": 2,
            "log_every": steps,
            "save_every": steps,
        },
        "samples": {"identities": 1, "steps": 1},
    }
