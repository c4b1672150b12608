"""Multiply-accumulates of a network, dense and as its gates leave them."""

from headgate.train.macs.count import count_macs
from headgate.train.macs.result import CONVENTION, MacCount, Macs

__all__ = ["CONVENTION", "MacCount", "Macs", "count_macs"]
