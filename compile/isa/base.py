"""What a schedule knows of the instructions that it is written for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.device.tensor_type import TensorType


@dataclass(frozen=True)
class Isa:
    """The vector instructions for numbers of one dtype, as one core runs them."""

    name: str
    dtype: str
    mac_cycles: Mapping[int, float] = field(hash=False)
    """Cycles that a multiply-accumulate of so many lanes occupies, by the widths worth trying."""
    load_cycles: Mapping[int, float] = field(hash=False)
    """The same of a load."""
    cache_bytes: int
    """The second-level cache."""
    weight_lanes: int = 1
    """How many weights of one row are loaded at once and used by element; 1: broadcast."""
    narrowest: int = 4
    """Lanes of the narrowest vector there is."""

    @property
    def lanes(self) -> int:
        """Lanes of the widest vector."""
        return max(self.mac_cycles)

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return TensorType((), self.dtype).item_bytes

    def lanes_within(self, length: int) -> int:
        """The widest vector that ``length`` numbers fill, or the narrowest there is."""
        widths = sorted({*self.mac_cycles, self.narrowest}, reverse=True)
        return next((lanes for lanes in widths if lanes <= length), widths[-1])

    def lanes_over(self, length: int) -> int:
        """The narrowest vector that holds ``length`` numbers, or the widest there is."""
        widths = sorted({*self.mac_cycles, self.narrowest})
        return next((lanes for lanes in widths if lanes >= length), widths[-1])
