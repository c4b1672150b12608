"""SD images that measure on their first boot: an operating system's image, made the user's own."""

from __future__ import annotations

from headgate.device.image.customise import customise, make_image, must_not_be
from headgate.device.image.settings import Settings, Wifi

__all__ = ["Settings", "Wifi", "customise", "make_image", "must_not_be"]
