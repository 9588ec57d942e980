"""`python -m ehub`: as the `ehub` command."""

from ehub.cli import main

main()
