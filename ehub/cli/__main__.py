"""`python -m ehub.cli`: as the `ehub` command."""

from ehub.cli import main

main()
