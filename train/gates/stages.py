"""Lowering the density of all gates in stages, the procedure of methods that name no other."""

from __future__ import annotations

from headgate.train import schedule
from headgate.train.gates.attach import set_density
from headgate.train.procedure import Moment, Procedure


class DensityStages(Procedure):
    """All gates get the density of ``recipe.density_schedule``, as FBS lowers it."""

    def configure(self, moment: Moment) -> None:
        set_density(moment.module, schedule.density(moment.recipe, moment.epoch))
