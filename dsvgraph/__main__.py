"""``python -m dsvgraph`` is the command line."""

from dsvgraph.cli import main
from dsvgraph.processes import end_with_input

if __name__ == "__main__":
    end_with_input()
    main()
