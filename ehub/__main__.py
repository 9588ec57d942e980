"""`python -m ehub`: as the `ehub` command."""

from ehub.cli import main

if __name__ == "__main__":
    main()
