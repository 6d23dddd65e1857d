"""``python -m synthkern`` is the command ``synthkern``."""

import sys

from synthkern.cli import main

sys.exit(main())
