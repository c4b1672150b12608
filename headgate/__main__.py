"""`python -m headgate`, and so `accelerate launch -m headgate train RECIPE`."""

from __future__ import annotations

import sys

from headgate.cli import main

sys.exit(main())
