"""Trained weights out, in formats that others load: written, loaded back in the target, and compared before they stay.

Whether a run's weights can be kept in a format is known before it is trained (`check`).
"""

from train.export.command import add_arguments, run

__all__ = ["add_arguments", "run"]
