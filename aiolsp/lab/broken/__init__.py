"""Small servers that make a chapter's classic mistake, or not (``--mended``): the same mistake in both shells."""
