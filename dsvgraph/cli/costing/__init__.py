"""What `dsvgraph cost` prints of a plan and of a verification."""
