"""Inline SVG, coloured by the page's CSS classes: one file per kind of drawing.

Every drawing has a ``<title>``, which browsers show as a tooltip and screen readers read.
"""

from headgate.profiling.charts.cells import activity_strip, histogram, latency_bar, paired_bars
from headgate.profiling.charts.columns import column_chart
from headgate.profiling.charts.heatmap import Cell, heat_map
from headgate.profiling.charts.power import power_trace
from headgate.profiling.charts.scatter import Point, key_mark, pareto_front, scatter

__all__ = [
    "Cell",
    "Point",
    "activity_strip",
    "column_chart",
    "heat_map",
    "histogram",
    "key_mark",
    "latency_bar",
    "paired_bars",
    "pareto_front",
    "power_trace",
    "scatter",
]
