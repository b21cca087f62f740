"""What `dsvgraph probe` shows: tables and coloured text on a terminal, and one page of HTML."""
