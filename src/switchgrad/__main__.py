"""``python -m switchgrad``: the command line."""

from switchgrad.app.cli import main

if __name__ == "__main__":
    main()
