"""What measures, on boards and here: standard library only, Python 3.8 (JetPack 5) and up.

Imports are relative: as one file (``device/agent_archive.py``) the package has another name.
"""

VERSION = "0.1.0"
