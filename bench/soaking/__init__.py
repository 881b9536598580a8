"""What ``soak.py`` is made of: files that change, clients that check every answer, and who watches the server."""
