"""The blocking twins: each program on select, poll, epoll, threads and processes, as the book writes it."""
