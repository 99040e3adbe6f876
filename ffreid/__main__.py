"""``python -m ffreid``: the same as the ``ffreid`` command, and what torchrun starts."""

from ffreid.cli import main

if __name__ == "__main__":
    main()
