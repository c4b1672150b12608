"""Inline SVG, coloured by the page's CSS classes: one file per kind of drawing."""
