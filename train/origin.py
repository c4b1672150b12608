"""The recipe, data and teacher that a run was started with, and must be resumed with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headgate.errors import DataError, RecipeError
from headgate.train.data.fingerprint import Fingerprint, differences
from headgate.train.recipe import Recipe


@dataclass
class Origin:
    """Recipe, data set, and the SHA-256 of the teacher's weights.

    The last two are None where there is none, and in states from before they were kept.
    """

    recipe: dict[str, Any]
    data: Fingerprint | None = None
    teacher: str | None = None

    def demand_same(self, before: Origin, folder: Path) -> None:
        """Refuses to go on with something else than what the run in ``folder`` began with.

        Raises:
            RecipeError: another recipe or teacher, naming the options.
            DataError: another data set, with what is different.
        """
        # An option that is newer than the run had its default's effect.
        had = asdict(Recipe()) | before.recipe
        changed = [key for key, wanted in self.recipe.items() if had[key] != wanted]
        if before.teacher not in (None, self.teacher):
            changed.append("teacher (its weights)")
        if changed:
            raise RecipeError(
                f"the run in {folder} was started with another {', '.join(changed)}: "
                "resume it with the same recipe, or choose another folder"
            )
        if before.data and self.data and (altered := differences(before.data, self.data)):
            raise DataError(
                f"the data set has changed since the run in {folder} was started: "
                f"{'; '.join(altered)}. Put it back as it was, or choose another folder"
            )
