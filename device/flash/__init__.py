"""A disk image to an SD card: a removable one, never half of what boots. Firmware to a board."""

from __future__ import annotations

from headgate.device.flash.disks import Disk, list_disks
from headgate.device.flash.source import ImageSource
from headgate.device.flash.target import Target, find_target
from headgate.device.flash.write import Flashed, flash

__all__ = ["Disk", "Flashed", "ImageSource", "Target", "find_target", "flash", "list_disks"]
