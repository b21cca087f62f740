"""The words of a picture: titles, labels, headings, losses."""
