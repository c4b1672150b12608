"""From saved arithmetic to saved time, for every method, on networks of random weights.

``python -m bench.realised`` sets gates to a wanted density by the methods' own
calibration, prunes channels by chance, and times the results: time does not depend on what the
weights are, so no training is needed to know how much of a saving the kernels realise.
"""
