"""How a dashboard talks to an engine: frames on a socket, the server, and a link for each way."""
