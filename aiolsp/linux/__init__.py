"""System calls made safe, for both shells; no event loop anywhere."""
