"""`python -m playhead.cli` is `playhead`."""

from playhead.cli import main

if __name__ == "__main__":
    main()
