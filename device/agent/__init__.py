"""What runs on the board beside the C runner: context, latency, energy, one JSON report.

Standard library only, Python 3.8 (JetPack 5) and up, and nothing else of headgate: the folder is
shipped as one executable file (``device/agent_archive.py``) and started by ``python3
headgate-agent.pyz``. Imports inside are relative, because the package has another name in there.
"""

VERSION = "0.1.0"
