"""`python -m oipserver` is the command `oipserver`."""

from oipserver.cli import main

raise SystemExit(main())
