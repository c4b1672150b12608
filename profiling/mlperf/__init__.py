"""MLPerf Tiny's three modes on microcontrollers: performance, accuracy, energy."""

from headgate.profiling.mlperf.accuracy import Accuracy, measure_accuracy
from headgate.profiling.mlperf.energy import EnergyRun, energy_report, read_energy_run, run_energy
from headgate.profiling.mlperf.live import find_sensor, live_energy
from headgate.profiling.mlperf.performance import Performance, measure_performance
from headgate.profiling.mlperf.rules import TASKS

__all__ = [
    "TASKS",
    "Accuracy",
    "EnergyRun",
    "Performance",
    "energy_report",
    "find_sensor",
    "live_energy",
    "measure_accuracy",
    "measure_performance",
    "read_energy_run",
    "run_energy",
]
