"""The rules of serving files over HTTP: blocking calls to the file system, but no sockets and no event loop."""
