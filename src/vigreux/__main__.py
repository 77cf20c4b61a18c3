"""`python -m vigreux` and `accelerate launch -m vigreux`."""

import sys

from vigreux.cli.main import main

sys.exit(main())
