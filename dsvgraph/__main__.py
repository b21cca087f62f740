"""``python -m dsvgraph`` is the command line."""

from dsvgraph.cli import main

if __name__ == "__main__":
    main()
