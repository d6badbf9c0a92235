"""What every data set in memory accepts between its brackets."""

from __future__ import annotations

from torch import Tensor


def check_selection(owner: object, selection: slice | Tensor, single: str) -> None:
    """Raise TypeError for anything but a slice, a boolean mask or an index tensor; ``single`` is how to get one item."""
    if not isinstance(selection, slice | Tensor):
        raise TypeError(f"{type(owner).__name__}[...] takes a slice, a mask or an index tensor, not "
                        f"{type(selection).__name__}; for one item write {single}.")
