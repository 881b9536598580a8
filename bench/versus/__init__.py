"""What compare.py measures programs with: servers side by side, loads, rounds in turn, tables and charts."""
