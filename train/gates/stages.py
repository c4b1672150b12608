"""Lowering the density of all gates in stages: how methods train that name no other way."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.train.gates.layer import gates
from headgate.train.procedure import Moment, Procedure
from headgate.train.schedule import density


@dataclass(frozen=True)
class DensityStages(Procedure):
    """All gates get the density of ``recipe.density_schedule``."""

    def configure(self, moment: Moment) -> None:
        for layer in gates(moment.module).values():
            layer.set_density(density(moment.recipe, moment.epoch))
