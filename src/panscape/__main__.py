"""`python -m panscape` runs the command line."""

import sys

from panscape.cli import main

sys.exit(main())
